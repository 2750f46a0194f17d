package com.merchantguard;

import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.IntStream;

/**
 * Client of the scoring service ({@code merchantguard serve}), for Java 17 without dependencies. Threads may share it.
 *
 * <p>Items are texts (String) or records (Map); results are maps as in the service's OpenAPI description.
 */
public final class Client {
    private static final double LONGEST_WAIT_SECONDS = 10.0;
    private static final double FIRST_WAIT_SECONDS = 0.1;

    /** Errors of single items that may pass: the service had no room for part of a list. */
    private static final Set<String> BUSY = Set.of("queue_full", "draining", "log_full");

    private final String url;
    private final Options options;
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    /**
     * How the client asks.
     *
     * @param apiKey null for none
     * @param deadline bounds a request with all its retries, and is told to the service
     * @param retries after 429, 503 and a refused connection
     * @param batch items that go in one request
     */
    public record Options(String apiKey, Duration deadline, int retries, int batch) {
        /** Thirty seconds, five retries, a hundred items. */
        public static Options withKey(String apiKey) {
            return new Options(apiKey, Duration.ofSeconds(30), 5, 100);
        }
    }

    /** A client of the service at an address such as http://localhost:8080. */
    public Client(String url, Options options) {
        this.url = url.replaceAll("/+$", "");
        this.options = options;
    }

    /**
     * Assesses one text or record.
     *
     * @throws ServiceException if it cannot be assessed
     */
    public Map<String, Object> assess(Object item) throws InterruptedException {
        Map<String, Object> result = assessMany(List.of(item)).get(0);
        if (result.get("error") instanceof Map<?, ?> error) {
            throw new ServiceException((String) error.get("message"), 422, (String) error.get("type"), null, null, false, null);
        }
        return result;
    }

    /** Assesses texts and records, in their order; each has its own result, or "error" where it is wrong. */
    public List<Map<String, Object>> assessMany(List<?> items) throws InterruptedException {
        List<Map<String, Object>> results = new ArrayList<>();
        for (int start = 0; start < items.size(); start += options.batch()) {
            results.addAll(patiently(items.subList(start, Math.min(start + options.batch(), items.size()))));
        }
        for (int index = 0; index < results.size(); index++) {
            results.get(index).put("index", (long) index);
        }
        return results;
    }

    /** The bundle in use, its policies and thresholds. */
    public Map<String, Object> model() throws InterruptedException {
        return request("GET", "/v1/model", null, System.nanoTime() + options.deadline().toNanos());
    }

    /** Assesses a batch, and again the items that the service had no room for. */
    private List<Map<String, Object>> patiently(List<?> items) throws InterruptedException {
        long end = System.nanoTime() + options.deadline().toNanos();
        List<Map<String, Object>> results = new ArrayList<>(batch(items, end));
        for (int attempt = 0; attempt < options.retries(); attempt++) {
            List<Integer> busy = IntStream.range(0, results.size()).filter(row -> isBusy(results.get(row))).boxed().toList();
            Duration wait = pause(attempt);
            if (busy.isEmpty() || System.nanoTime() + wait.toNanos() - end >= 0) {
                break;
            }
            Thread.sleep(wait.toMillis());
            List<Object> left = new ArrayList<>();
            busy.forEach(row -> left.add(items.get(row)));
            List<Map<String, Object>> again = batch(left, end);
            for (int at = 0; at < busy.size(); at++) {
                results.set(busy.get(at), again.get(at));
            }
        }
        return results;
    }

    private static boolean isBusy(Map<String, Object> result) {
        return result.get("error") instanceof Map<?, ?> error && BUSY.contains(String.valueOf(error.get("type")));
    }

    /** A request where all items are wrong is refused as a whole: here too each item has its error. */
    private List<Map<String, Object>> batch(List<?> items, long end) throws InterruptedException {
        try {
            return results(request("POST", "/v1/assess", Map.of("input", items), end));
        } catch (ServiceException refused) {
            if (refused.status() != 422 || items.size() == 1) {
                throw refused;
            }
        }
        List<Map<String, Object>> found = new ArrayList<>();
        for (Object item : items) {
            found.add(alone(item, end));
        }
        return found;
    }

    private Map<String, Object> alone(Object item, long end) throws InterruptedException {
        try {
            return results(request("POST", "/v1/assess", Map.of("input", List.of(item)), end)).get(0);
        } catch (ServiceException refused) {
            if (refused.status() != 422) {
                throw refused;
            }
            Map<String, Object> result = new LinkedHashMap<>();
            result.put("error", Map.of("type", refused.type(), "message", refused.getMessage()));
            return result;
        }
    }

    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> results(Map<String, Object> answer) {
        return (List<Map<String, Object>>) answer.get("results");
    }

    private Map<String, Object> request(String method, String path, Object body, long end) throws InterruptedException {
        String requestId = UUID.randomUUID().toString();
        for (int attempt = 0; ; attempt++) {
            try {
                return attempt(method, path, body, end, requestId);
            } catch (ServiceException failed) {
                Duration wait = failed.retryAfter != null ? failed.retryAfter : pause(attempt);
                boolean late = System.nanoTime() + wait.toNanos() - end >= 0;
                if (!failed.mayRetry || attempt >= options.retries() || late) {
                    throw failed;
                }
                Thread.sleep(wait.toMillis());
            }
        }
    }

    private static Duration pause(int attempt) {
        double seconds = Math.min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * Math.pow(2, attempt));
        return Duration.ofMillis((long) (1000 * seconds * ThreadLocalRandom.current().nextDouble(0.5, 1.0)));
    }

    private Map<String, Object> attempt(String method, String path, Object body, long end, String requestId)
            throws InterruptedException {
        Duration left = Duration.ofMillis(Math.max(1, (end - System.nanoTime()) / 1_000_000));
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + path))
                .timeout(left)
                .header("Content-Type", "application/json")
                .header("X-Request-ID", requestId)
                .header("X-Deadline-Ms", Long.toString(left.toMillis()));
        if (options.apiKey() != null) {
            request.header("Authorization", "Bearer " + options.apiKey());
        }
        request.method(method, body == null
                ? HttpRequest.BodyPublishers.noBody()
                : HttpRequest.BodyPublishers.ofString(Json.write(body)));
        try {
            return answer(http.send(request.build(), HttpResponse.BodyHandlers.ofString()), requestId);
        } catch (HttpTimeoutException late) {
            throw new ServiceException("no answer within the deadline", 0, "deadline", requestId, null, false, late);
        } catch (IOException unreachable) {
            // After a refused connection nothing was sent.
            boolean refused = unreachable instanceof ConnectException;
            throw new ServiceException(url + ": " + unreachable, 0, "unreachable", requestId, null, refused, unreachable);
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> answer(HttpResponse<String> response, String requestId) {
        int status = response.statusCode();
        Object content = null;
        try {
            content = Json.parse(response.body());
        } catch (IllegalArgumentException notJson) {
            // A proxy's page: its status says what happened, unless it claims success.
            if (status == 200) {
                throw new ServiceException("the answer is not JSON", status, "protocol", requestId, null, false, notJson);
            }
        }
        if (status == 200) {
            return (Map<String, Object>) content;
        }
        Map<?, ?> error = content instanceof Map<?, ?> map && map.get("error") instanceof Map<?, ?> inner ? inner : Map.of();
        String message = error.get("message") instanceof String text ? text : "status " + status;
        String type = error.get("type") instanceof String text ? text : "refused";
        throw new ServiceException(
                message, status, type, requestId, retryAfter(response), status == 429 || status == 503, null);
    }

    private static Duration retryAfter(HttpResponse<?> response) {
        String seconds = response.headers().firstValue("Retry-After").orElse("");
        return seconds.matches("[0-9]{1,6}") ? Duration.ofSeconds(Long.parseLong(seconds)) : null;
    }
}
