// The style sheet. The builder in routing/explorer/ puts the text of explorer.css between the quotation marks.

export const STYLE = ""; // the text of ../explorer.css
