package com.merchantguard;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** JSON (RFC 8259) as maps, lists, strings, numbers, booleans and null: the JDK has none, and the client needs no more. */
final class Json {
    private static final int DEEPEST = 200;

    private final String source;
    private int at;

    private Json(String source) {
        this.source = source;
    }

    /**
     * Reads a document.
     *
     * @throws IllegalArgumentException naming the place, if it is not JSON
     */
    static Object parse(String source) {
        Json json = new Json(source);
        Object value = json.value(0);
        json.skip();
        if (json.at < source.length()) {
            throw json.wrong("more text after the value");
        }
        return value;
    }

    /** Writes a value; what UTF-8 cannot carry, such as a lone surrogate, is escaped. */
    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out);
        return out.toString();
    }

    private Object value(int depth) {
        if (depth > DEEPEST) {
            throw wrong("nested too deeply");
        }
        skip();
        char first = peek();
        if (first == '{') {
            return object(depth);
        }
        if (first == '[') {
            return list(depth);
        }
        return first == '"' ? string() : scalar();
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> found = new LinkedHashMap<>();
        at++;
        skip();
        while (peek() != '}') {
            if (!found.isEmpty()) {
                expect(',');
                skip();
            }
            String key = string();
            skip();
            expect(':');
            found.put(key, value(depth + 1));
            skip();
        }
        at++;
        return found;
    }

    private List<Object> list(int depth) {
        List<Object> found = new ArrayList<>();
        at++;
        skip();
        while (peek() != ']') {
            if (!found.isEmpty()) {
                expect(',');
            }
            found.add(value(depth + 1));
            skip();
        }
        at++;
        return found;
    }

    private String string() {
        expect('"');
        StringBuilder text = new StringBuilder();
        while (peek() != '"') {
            char unit = source.charAt(at++);
            text.append(unit == '\\' ? escape() : unit);
        }
        at++;
        return text.toString();
    }

    private char escape() {
        char kind = peek();
        at++;
        switch (kind) {
            case 'n': return '\n';
            case 't': return '\t';
            case 'r': return '\r';
            case 'b': return '\b';
            case 'f': return '\f';
            case '"': case '\\': case '/': return kind;
            case 'u':
                if (at + 4 > source.length()) {
                    throw wrong("a cut escape");
                }
                at += 4;
                return (char) Integer.parseInt(source, at - 4, at, 16);
            default: throw wrong("an unknown escape");
        }
    }

    private Object scalar() {
        int start = at;
        while (at < source.length() && ",]} \t\r\n".indexOf(source.charAt(at)) < 0) {
            at++;
        }
        String word = source.substring(start, at);
        switch (word) {
            case "null": return null;
            case "true": return Boolean.TRUE;
            case "false": return Boolean.FALSE;
            default: return number(word);
        }
    }

    private Object number(String word) {
        if (!word.matches("-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")) {
            throw wrong("an unknown word");
        }
        return word.matches("-?[0-9]{1,18}") ? (Object) Long.valueOf(word) : (Object) Double.valueOf(word);
    }

    private void expect(char wanted) {
        if (peek() != wanted) {
            throw wrong("'" + wanted + "' is needed");
        }
        at++;
    }

    private char peek() {
        if (at >= source.length()) {
            throw wrong("the text ends");
        }
        return source.charAt(at);
    }

    private void skip() {
        while (at < source.length() && " \t\r\n".indexOf(source.charAt(at)) >= 0) {
            at++;
        }
    }

    private IllegalArgumentException wrong(String fault) {
        return new IllegalArgumentException("not JSON at character " + at + ": " + fault);
    }

    private static void write(Object value, StringBuilder out) {
        if (value == null || value instanceof Boolean || value instanceof Number) {
            if (value instanceof Double && !Double.isFinite((Double) value)) {
                throw new IllegalArgumentException(value + " cannot be written as JSON");
            }
            out.append(value);
        } else if (value instanceof CharSequence) {
            quote(value.toString(), out);
        } else if (value instanceof Map) {
            String separator = "{";
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                quote(String.valueOf(entry.getKey()), out.append(separator));
                write(entry.getValue(), out.append(':'));
                separator = ",";
            }
            out.append(separator.equals("{") ? "{}" : "}");
        } else if (value instanceof Iterable) {
            String separator = "[";
            for (Object each : (Iterable<?>) value) {
                write(each, out.append(separator));
                separator = ",";
            }
            out.append(separator.equals("[") ? "[]" : "]");
        } else {
            throw new IllegalArgumentException(value.getClass() + " cannot be written as JSON");
        }
    }

    private static void quote(String text, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char unit = text.charAt(i);
            if (unit == '"' || unit == '\\') {
                out.append('\\').append(unit);
            } else if (unit < 0x20 || Character.isSurrogate(unit)) {
                out.append(String.format("\\u%04x", (int) unit));
            } else {
                out.append(unit);
            }
        }
        out.append('"');
    }
}
