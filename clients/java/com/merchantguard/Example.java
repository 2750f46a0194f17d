package com.merchantguard;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Assesses the texts and records on standard input, one JSON value a line, and prints a result a line.
 *
 * <pre>java -cp classes com.merchantguard.Example http://localhost:8080 [DEADLINE_MS] &lt; items.jsonl</pre>
 */
final class Example {
    private Example() {}

    public static void main(String[] arguments) throws IOException, InterruptedException {
        Duration deadline = Duration.ofMillis(arguments.length > 1 ? Long.parseLong(arguments[1]) : 30_000);
        Client client = new Client(arguments[0], new Client.Options(System.getenv("MERCHANTGUARD_KEY"), deadline, 5, 8));
        List<Object> items = new ArrayList<>();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            items.add(Json.parse(line));
        }
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        try {
            for (Map<String, Object> result : client.assessMany(items)) {
                out.println(Json.write(result));
            }
        } catch (ServiceException failed) {
            System.err.println(failed.status() + " " + failed.type() + ": " + failed.getMessage());
            System.exit(1);
        }
    }
}
