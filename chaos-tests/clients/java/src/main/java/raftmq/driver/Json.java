package raftmq.driver;

/** Writes flat JSON objects, one a line. */
final class Json {
    private Json() {
    }

    /**
     * Returns one JSON object.
     *
     * @param pairs keys and values in turn; a value is a String, a Number or a Boolean
     */
    static String object(Object... pairs) {
        StringBuilder json = new StringBuilder("{");
        for (int i = 0; i < pairs.length; i += 2) {
            if (i > 0) {
                json.append(',');
            }
            quote(json, pairs[i].toString());
            json.append(':');
            Object value = pairs[i + 1];
            if (value instanceof Number || value instanceof Boolean) {
                json.append(value);
            } else {
                quote(json, value.toString());
            }
        }
        return json.append('}').toString();
    }

    private static void quote(StringBuilder json, String text) {
        json.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        json.append('"');
    }
}
