package libmq.example;

import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** What a stream answers, for a thread that waits for it. Bounded by what was asked: a window, or credit. */
final class Responses<T> implements StreamObserver<T> {
    private final BlockingQueue<Object> queue = new LinkedBlockingQueue<>();

    @Override
    public void onNext(T response) {
        queue.add(response);
    }

    @Override
    public void onError(Throwable error) {
        queue.add(Status.fromThrowable(error));
    }

    @Override
    public void onCompleted() {
        queue.add(Status.OK);
    }

    /** The next, or null when the stream has ended well. Throws StatusRuntimeException if it broke. */
    @SuppressWarnings("unchecked")
    T next() throws InterruptedException {
        Object response = queue.take();
        if (!(response instanceof Status)) {
            return (T) response;
        }
        if (((Status) response).isOk()) {
            return null;
        }
        throw ((Status) response).asRuntimeException();
    }
}
