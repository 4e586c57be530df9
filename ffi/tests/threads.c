// Handles that many threads use at once: each message is finished once.

#include <pthread.h>
#include <stdatomic.h>

#include "check.h"

enum { THREADS = 8, PUBLISHES = 200, BODIES = 5, TOTAL = THREADS * PUBLISHES * BODIES };

static mq_client *client;
static mq_subscription *subscription;
static atomic_int finished;
static atomic_char seen[TOTAL];

static void *publisher(void *first) {
  for (int i = 0; i < PUBLISHES; i++) {
    char texts[BODIES][16];
    mq_span bodies[BODIES];
    mq_receipt receipts[BODIES];
    for (int at = 0; at < BODIES; at++) {
      snprintf(texts[at], sizeof texts[at], "%d", *(int *)first + i * BODIES + at);
      bodies[at] = span(texts[at]);
    }
    OK(mq_publish(client, "t", bodies, BODIES, NULL, receipts));
    CHECK(receipts[BODIES - 1].offset == receipts[0].offset + BODIES - 1);
  }
  return NULL;
}

// Half of the threads wait, the others poll.
static void *consumer(void *number) {
  while (atomic_load(&finished) < TOTAL) {
    mq_batch *batch;
    mq_status status =
        *(int *)number % 2 == 0 ? mq_subscription_next(subscription, 1, &batch) : mq_subscription_poll(subscription, &batch);
    if (status == MQ_STATUS_TIMEOUT || status == MQ_STATUS_EMPTY) {
      continue;
    }
    OK(status);
    size_t len = mq_batch_len(batch);
    for (size_t i = 0; i < len; i++) {
      mq_message message;
      char text[16] = {0};
      OK(mq_batch_message(batch, i, &message));
      CHECK(message.body.len < sizeof text);
      memcpy(text, message.body.data, message.body.len);
      CHECK(atomic_exchange(&seen[atoi(text)], 1) == 0);
    }
    OK(mq_batch_finish(batch, 0, len));
    mq_batch_free(batch);
    atomic_fetch_add(&finished, (int)len);
  }
  return NULL;
}

int main(void) {
  OK(mq_connect("mq:memory", NULL, &client));
  mq_subscribe_options settings = MQ_SUBSCRIBE_OPTIONS_INIT;
  settings.max_batch = 50;
  OK(mq_subscribe(client, "t", "c", &settings, &subscription));
  pthread_t threads[2 * THREADS];
  int numbers[2 * THREADS];
  for (int i = 0; i < 2 * THREADS; i++) {
    numbers[i] = i < THREADS ? i * PUBLISHES * BODIES : i;
    CHECK(pthread_create(&threads[i], NULL, i < THREADS ? publisher : consumer, &numbers[i]) == 0);
  }
  for (int i = 0; i < 2 * THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  CHECK(atomic_load(&finished) == TOTAL);
  mq_batch *batch;
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  mq_client_free(client);
  mq_subscription_free(subscription);
  return 0;
}
