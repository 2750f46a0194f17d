package com.merchantguard;

import java.time.Duration;

/** The service's refusal, or none of its answers in time. */
public final class ServiceException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final int status;
    private final String type;
    private final String requestId;
    final transient Duration retryAfter;
    final boolean mayRetry;

    ServiceException(
            String message, int status, String type, String requestId, Duration retryAfter, boolean mayRetry, Throwable cause) {
        super(message, cause);
        this.status = status;
        this.type = type;
        this.requestId = requestId;
        this.retryAfter = retryAfter;
        this.mayRetry = mayRetry;
    }

    /** HTTP status; 0 where there was no answer. */
    public int status() {
        return status;
    }

    /** Kind of the error, such as "invalid", "overloaded", "deadline" or "unreachable". */
    public String type() {
        return type;
    }

    /** The request's id, as in the service's logs; null where the error is one item's own. */
    public String requestId() {
        return requestId;
    }
}
