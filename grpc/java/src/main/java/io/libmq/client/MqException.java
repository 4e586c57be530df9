package io.libmq.client;

import io.grpc.Status;
import io.libmq.v1.Failure;
import java.time.Duration;

/** The reason why something was not done. */
public final class MqException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** Kinds of reasons. */
    public enum Kind {
        /** The broker refuses it. A message is not stored. */
        REFUSED,
        /**
         * A message was sent, but its answer did not come: it may be stored, or not. Publishing it again with
         * the same id stores it at most once, at the same broker.
         */
        UNKNOWN,
        /** No broker could be reached in time. A message is not stored. */
        UNREACHABLE,
        /** The client, publisher or consumer is closed. A message is not stored. */
        CLOSED,
    }

    private final Kind kind;
    private final Status.Code code;
    private final String field;
    private final String reason;
    private final Duration retryAfter;

    private MqException(Kind kind, Status.Code code, String field, String reason, Duration retryAfter, String text) {
        super(text);
        this.kind = kind;
        this.code = code;
        this.field = field;
        this.reason = reason;
        this.retryAfter = retryAfter;
    }

    static MqException of(Kind kind, String text) {
        return new MqException(kind, Status.Code.UNKNOWN, "", "", Duration.ZERO, text);
    }

    static MqException closed() {
        return of(Kind.CLOSED, "closed");
    }

    static MqException unknown(String why) {
        return of(Kind.UNKNOWN, "no answer came: the message may be stored (" + why + ")");
    }

    static MqException refused(Status status) {
        String text = status.getCode() + ": " + status.getDescription();
        return new MqException(Kind.REFUSED, status.getCode(), "", "", Duration.ZERO, text);
    }

    static MqException refused(Failure failure, String field) {
        Status.Code code = Status.fromCodeValue(failure.getCode()).getCode();
        String text = code + ": " + (field.isEmpty() ? "" : field + ": ") + failure.getMessage();
        Duration retryAfter = Duration.ofMillis(failure.getRetryAfterMs());
        return new MqException(Kind.REFUSED, code, field, failure.getReason(), retryAfter, text);
    }

    static MqException invalid(String field, String text) {
        Failure failure = Failure.newBuilder()
                .setCode(Status.Code.INVALID_ARGUMENT.value())
                .setMessage(text)
                .build();
        return refused(failure, field);
    }

    /** The kind of reason. */
    public Kind kind() {
        return kind;
    }

    /** The code of a refusal, as gRPC has it. */
    public Status.Code code() {
        return code;
    }

    /** The field that breaks a rule, as a path from the request, or empty. */
    public String field() {
        return field;
    }

    /** The reason for programs, such as FULL, or empty. */
    public String reason() {
        return reason;
    }

    /** The time after which the same may be tried again, or zero. */
    public Duration retryAfter() {
        return retryAfter;
    }

    /** Whether the same can never succeed, whenever and wherever it is tried. */
    static boolean isFinal(Status status) {
        switch (status.getCode()) {
            case INVALID_ARGUMENT:
            case UNAUTHENTICATED:
            case PERMISSION_DENIED:
            case UNIMPLEMENTED:
            case OUT_OF_RANGE:
            case FAILED_PRECONDITION:
                return true;
            default:
                return false;
        }
    }
}
