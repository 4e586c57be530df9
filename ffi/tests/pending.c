// Publishes in the background: their outcome by a wait, a descriptor and a callback.

#define _DEFAULT_SOURCE
#include <poll.h>
#include <pthread.h>

#include "check.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int stored, failed;
static uint64_t seen[200];

static void on_outcome(void *user_data, mq_status status, const mq_receipt *receipts, size_t n) {
  mq_client *client = user_data;
  pthread_mutex_lock(&lock);
  if (status == MQ_STATUS_OK) {
    CHECK(n == 2 && receipts[1].offset == receipts[0].offset + 1);
    for (int i = 0; i < stored; i += 2) {
      CHECK(seen[i] != receipts[0].offset);
    }
    seen[stored] = receipts[0].offset;
    stored += (int)n;
    // Publishing goes on in a callback; only closing does not.
    STATUS(MQ_STATUS_WOULD_DEADLOCK, mq_client_close(client, 0));
  } else {
    CHECK(receipts == NULL && n == 0 && strlen(mq_last_error()) > 0);
    failed++;
  }
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

static void wait_for(int *count, int wanted) {
  pthread_mutex_lock(&lock);
  while (*count < wanted) {
    pthread_cond_wait(&changed, &lock);
  }
  pthread_mutex_unlock(&lock);
}

static void by_a_wait_and_a_descriptor(void) {
  mq_client *client;
  mq_pending *pending;
  mq_span bodies[3] = {span("one"), span("two"), span("three")};
  mq_receipt receipts[3];
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_publish_async(client, "t", bodies, 3, NULL, NULL, NULL, &pending));
  OK(mq_pending_wait(pending, -1, receipts));
  CHECK(receipts[2].offset == receipts[0].offset + 2);
  CHECK(mq_pending_state(pending) == MQ_PUBLISH_STATE_STORED);
  OK(mq_pending_wait(pending, 0, NULL));
  mq_pending_free(pending);

  for (int i = 0; i < 50; i++) {
    OK(mq_publish_async(client, "t", bodies, 1, NULL, NULL, NULL, &pending));
    struct pollfd wanted = {mq_pending_fd(pending), POLLIN, 0};
    CHECK(wanted.fd >= 0 && mq_pending_fd(pending) == wanted.fd);
    if (i % 2 == 0) {
      CHECK(poll(&wanted, 1, PATIENCE_MS) == 1);
      OK(mq_pending_wait(pending, 0, receipts));
    }
    mq_pending_free(pending);
  }
  size_t unfinished = 1;
  OK(mq_client_flush(client, -1, &unfinished));
  CHECK(unfinished == 0);
  STATUS(MQ_STATUS_INVALID_NAME, mq_publish_async(client, "t t", bodies, 1, NULL, NULL, NULL, &pending));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish_async(client, "t", bodies, 0, NULL, NULL, NULL, &pending));
  CHECK(mq_pending_fd(NULL) == -1 && mq_pending_state(NULL) == MQ_PUBLISH_STATE_INVALID);
  mq_pending_free(NULL);
  mq_client_free(client);
}

// Each outcome is reported once, also if the client is freed before.
static void by_a_callback(void) {
  mq_client *client;
  mq_span bodies[2] = {span("one"), span("two")};
  OK(mq_connect("mq:memory", NULL, &client));
  for (int i = 0; i < 100; i++) {
    OK(mq_publish_async(client, "t", bodies, 2, NULL, on_outcome, client, NULL));
  }
  wait_for(&stored, 200);
  STATUS(MQ_STATUS_INVALID_NAME, mq_publish_async(client, "t t", bodies, 1, NULL, on_outcome, client, NULL));
  mq_client_free(client);
  CHECK(stored == 200 && failed == 0);

  // Nothing listens on port 1: the messages wait, until nobody does.
  mq_client *remote;
  mq_pending *pending;
  OK(mq_connect("mq://127.0.0.1:1", NULL, &remote));
  OK(mq_publish_async(remote, "t", bodies, 2, NULL, on_outcome, remote, &pending));
  STATUS(MQ_STATUS_TIMEOUT, mq_pending_wait(pending, 0, NULL));
  CHECK(mq_pending_state(pending) == MQ_PUBLISH_STATE_QUEUED);
  struct pollfd wanted = {mq_pending_fd(pending), POLLIN, 0};
  CHECK(poll(&wanted, 1, 0) == 0);
  size_t unfinished = 0;
  STATUS(MQ_STATUS_TIMEOUT, mq_client_flush(remote, 0, &unfinished));
  mq_pending_free(pending);
  mq_client_free(remote);
  wait_for(&failed, 1);
}

static void a_full_buffer(void) {
  mq_client *client;
  mq_config config = MQ_CONFIG_INIT;
  config.max_buffered_bytes = 1024;
  OK(mq_connect("mq://127.0.0.1:1", &config, &client));
  char bytes[600] = {0};
  mq_span body = {bytes, sizeof bytes};
  OK(mq_publish_async(client, "t", &body, 1, NULL, NULL, NULL, NULL));
  STATUS(MQ_STATUS_BUFFER_FULL, mq_publish_async(client, "t", &body, 1, NULL, NULL, NULL, NULL));
  CHECK(mq_last_error_retry());
  mq_client_free(client);
}

int main(void) {
  by_a_wait_and_a_descriptor();
  by_a_callback();
  a_full_buffer();
  return 0;
}
