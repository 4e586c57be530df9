// One load by libmq from C, and what it cost: the same loads as bench/src/bin/client_load.rs, by mq.h.
//
//   client-load CASE URL MESSAGES
//
// Prints microseconds of this process's CPU time a message; of `embedded` those of the clock, of `poll` those of
// the clock a call.

#define _POSIX_C_SOURCE 200809L
#include <mq.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 100
// No step takes longer, unless something is wrong.
#define PATIENCE_MS 60000

static char body[100];

static void ok(mq_status status) {
  if (status != MQ_STATUS_OK) {
    fprintf(stderr, "%s: %s\n", mq_status_name(status), mq_last_error());
    exit(1);
  }
}

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

// Queues n messages without waiting for their outcome; waits for room where there is none.
static void queue(mq_client *client, const mq_span *bodies, size_t n) {
  mq_status status;
  while ((status = mq_publish_async(client, "t", bodies, n, NULL, NULL, NULL, NULL)) == MQ_STATUS_BUFFER_FULL) {
    ok(mq_client_flush(client, PATIENCE_MS, NULL));
  }
  ok(status);
}

static void publish(mq_client *client, long messages, size_t n) {
  mq_span bodies[BATCH];
  for (size_t i = 0; i < BATCH; i++) {
    bodies[i] = (mq_span){body, sizeof body};
  }
  for (long sent = 0; sent < messages; sent += (long)n) {
    queue(client, bodies, n);
  }
  ok(mq_client_flush(client, PATIENCE_MS, NULL));
}

static mq_subscription *subscribe(mq_client *client) {
  mq_subscribe_options options = MQ_SUBSCRIBE_OPTIONS_INIT;
  options.max_in_flight = 2000;
  options.max_batch = BATCH;
  mq_subscription *subscription;
  ok(mq_subscribe(client, "t", "c", &options, &subscription));
  return subscription;
}

static void consume(mq_subscription *subscription, long messages, int one_by_one) {
  while (messages > 0) {
    mq_batch *batch;
    ok(mq_subscription_next(subscription, PATIENCE_MS, &batch));
    size_t len = mq_batch_len(batch);
    if (one_by_one) {
      for (size_t i = 0; i < len; i++) {
        mq_message message;
        ok(mq_batch_message(batch, i, &message));
        ok(mq_batch_finish(batch, i, i + 1));
      }
    } else {
      ok(mq_batch_finish(batch, 0, len));
    }
    messages -= (long)len;
    mq_batch_free(batch);
  }
}

struct publisher {
  mq_client *client;
  long messages;
};

static void *publish_in_batches(void *of) {
  const struct publisher *publisher = of;
  mq_span bodies[BATCH];
  for (size_t i = 0; i < BATCH; i++) {
    bodies[i] = (mq_span){body, sizeof body};
  }
  for (long sent = 0; sent < publisher->messages; sent += BATCH) {
    ok(mq_publish(publisher->client, "t", bodies, BATCH, NULL, NULL));
  }
  return NULL;
}

// Publishes in batches on one thread, and consumes them on another.
static void pipe_through(mq_client *client, mq_subscription *subscription, long messages) {
  struct publisher publisher = {client, messages};
  pthread_t thread;
  if (pthread_create(&thread, NULL, publish_in_batches, &publisher) != 0) {
    exit(1);
  }
  consume(subscription, messages, 0);
  pthread_join(thread, NULL);
}

static void poll_nothing(mq_subscription *subscription, long calls) {
  mq_batch *batch;
  for (long i = 0; i < calls; i++) {
    if (mq_subscription_poll(subscription, &batch) != MQ_STATUS_EMPTY) {
      exit(1);
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s send|send-batches|finish|finish-batches|embedded|poll URL MESSAGES\n", argv[0]);
    return 2;
  }
  const char *name = argv[1];
  const long messages = atol(argv[3]);
  memset(body, 'x', sizeof body);
  mq_config config = MQ_CONFIG_INIT;
  config.max_buffered_bytes = 256 << 10;
  mq_client *client;
  ok(mq_connect(argv[2], &config, &client));
  const int by_clock = strcmp(name, "embedded") == 0 || strcmp(name, "poll") == 0;
  const clockid_t clock = by_clock ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
  mq_subscription *subscription = NULL;
  if (strncmp(name, "send", 4) == 0) {
    publish(client, 1, 1); // It connects.
  } else {
    subscription = subscribe(client);
  }
  const double began = now(clock);
  if (strcmp(name, "send") == 0) {
    publish(client, messages, 1);
  } else if (strcmp(name, "send-batches") == 0) {
    publish(client, messages, BATCH);
  } else if (strcmp(name, "embedded") == 0) {
    pipe_through(client, subscription, messages);
  } else if (strcmp(name, "poll") == 0) {
    poll_nothing(subscription, messages);
  } else {
    consume(subscription, messages, strcmp(name, "finish") == 0);
  }
  printf("%.4f\n", (now(clock) - began) / (double)messages);
  mq_subscription_free(subscription);
  mq_client_close(client, PATIENCE_MS);
  mq_client_free(client);
  return 0;
}
