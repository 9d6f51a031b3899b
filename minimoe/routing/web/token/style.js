// The style sheet of the widget of one token. The bundler inserts the text of token.css between the quotation marks.

export const TOKEN_STYLE = ""; // the text of ./token.css
