// A publisher: publishes each line of its input, to a folder or to brokers, as the URL says.
//
//   seq 1000 | ./publisher mq://127.0.0.1:4150 TOPIC

#include <mq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_LINES = 100, LINE_BYTES = 4096, CLOSE_MS = 30000 };

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, mq_last_error());
  return EXIT_FAILURE;
}

// Takes the outcome of each batch, on a thread of the library.
static void on_outcome(void *failures, mq_status status, const mq_receipt *receipts, size_t n) {
  (void)receipts;
  (void)n;
  if (status != MQ_STATUS_OK) {
    fprintf(stderr, "not stored: %s\n", mq_last_error());
    ++*(int *)failures;
  }
}

// Publishes in the background: only a full buffer is waited for.
static mq_status send_lines(mq_client *client, const char *topic, const mq_span *lines, size_t n, int *failures) {
  for (;;) {
    mq_status status = mq_publish_async(client, topic, lines, n, NULL, on_outcome, failures, NULL);
    if (status != MQ_STATUS_BUFFER_FULL) {
      return status;
    }
    if (mq_client_flush(client, CLOSE_MS, NULL) != MQ_STATUS_OK) {
      return MQ_STATUS_BUFFER_FULL;
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s URL TOPIC\n", argv[0]);
    return EXIT_FAILURE;
  }
  mq_client *client;
  if (mq_connect(argv[1], NULL, &client) != MQ_STATUS_OK) {
    return failed(argv[1]);
  }
  static char lines[BATCH_LINES][LINE_BYTES];
  mq_span bodies[BATCH_LINES];
  size_t n = 0;
  // Changed by callbacks until the client is freed, and read after that.
  int failures = 0, result = EXIT_SUCCESS, is_end = 0;
  while (!is_end && result == EXIT_SUCCESS) {
    is_end = fgets(lines[n], LINE_BYTES, stdin) == NULL;
    if (!is_end) {
      size_t len = strcspn(lines[n], "\n");
      if (len > 0) {
        bodies[n] = (mq_span){lines[n], len};
        n++;
      }
    }
    // The bodies are copied: the lines may be used again.
    if (n == BATCH_LINES || (is_end && n > 0)) {
      if (send_lines(client, argv[2], bodies, n, &failures) != MQ_STATUS_OK) {
        result = failed(argv[2]);
      }
      n = 0;
    }
  }
  // Nothing is flushed at exit: this waits until all is stored.
  if (mq_client_close(client, CLOSE_MS) != MQ_STATUS_OK) {
    result = failed("close");
  }
  mq_client_free(client);
  return failures > 0 ? EXIT_FAILURE : result;
}
