// The style sheet. The bundler in routing/explorer/ inserts the text of explorer.css between the quotation marks.

export const STYLE = ""; // the text of ../explorer.css
