// The style sheet. The builder (explorer/module.py) puts the text of explorer.css between the quotation marks.

export const STYLE = ""; // the text of ../explorer.css
