package io.libmq.client;

/** Says where a message is stored. */
public final class Receipt {
    private final long offset;
    private final boolean duplicate;

    Receipt(long offset, boolean duplicate) {
        this.offset = offset;
        this.duplicate = duplicate;
    }

    /** The message's place in the topic. */
    public long offset() {
        return offset;
    }

    /** Whether a message with the same id was stored there before. */
    public boolean isDuplicate() {
        return duplicate;
    }
}
