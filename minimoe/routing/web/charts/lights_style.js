// The style sheet of the lights. The bundler inserts the text of lights.css between the quotation marks.

export const LIGHTS_STYLE = ""; // the text of ./lights.css
