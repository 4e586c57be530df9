// Callbacks: on a thread of their own, with what may be called in them.

#define _DEFAULT_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "check.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct consumer {
  mq_client *client;
  mq_subscription *subscription;
  pthread_t thread;
  int free_at;
  int messages, ends;
  mq_status end;
};

static void wait_for(int *count, int wanted) {
  pthread_mutex_lock(&lock);
  while (*count < wanted) {
    pthread_cond_wait(&changed, &lock);
  }
  pthread_mutex_unlock(&lock);
}

static void on_batch(void *user_data, mq_status status, mq_batch *batch) {
  struct consumer *consumer = user_data;
  pthread_mutex_lock(&lock);
  if (status != MQ_STATUS_OK) {
    CHECK(batch == NULL && strlen(mq_last_error()) > 0);
    consumer->end = status;
    consumer->ends++;
  } else {
    size_t len = mq_batch_len(batch);
    consumer->thread = pthread_self();
    consumer->messages += (int)len;
    // Nothing that would wait for this very call.
    STATUS(MQ_STATUS_WOULD_DEADLOCK, mq_subscription_close(consumer->subscription, 0));
    STATUS(MQ_STATUS_WOULD_DEADLOCK, mq_client_close(consumer->client, 0));
    if (consumer->free_at > 0 && consumer->messages >= consumer->free_at) {
      // Takes effect on return: the answers below are still the subscription's.
      mq_subscription_free(consumer->subscription);
      mq_client_free(consumer->client);
      consumer->subscription = NULL;
    }
    OK(mq_batch_finish(batch, 0, len));
    mq_batch_free(batch);
  }
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

static void start(struct consumer *consumer) {
  mq_subscribe_options settings = MQ_SUBSCRIBE_OPTIONS_INIT;
  settings.on_batch = on_batch;
  settings.user_data = consumer;
  // The first call may come before mq_subscribe returns.
  pthread_mutex_lock(&lock);
  OK(mq_subscribe(consumer->client, "t", "c", &settings, &consumer->subscription));
  pthread_mutex_unlock(&lock);
}

static void batches_come_and_the_end_once(void) {
  struct consumer consumer = {0};
  OK(mq_connect("mq:memory", NULL, &consumer.client));
  start(&consumer);
  for (int i = 0; i < 100; i++) {
    publish(consumer.client, "t", "message");
  }
  wait_for(&consumer.messages, 100);
  CHECK(!pthread_equal(consumer.thread, pthread_self()));
  mq_batch *batch;
  STATUS(MQ_STATUS_UNSUPPORTED, mq_subscription_next(consumer.subscription, 0, &batch));
  STATUS(MQ_STATUS_UNSUPPORTED, mq_subscription_poll(consumer.subscription, &batch));
  CHECK(mq_subscription_fd(consumer.subscription) == -1);
  OK(mq_subscription_flush(consumer.subscription, PATIENCE_MS));
  OK(mq_subscription_close(consumer.subscription, -1));
  STATUS(MQ_STATUS_CLOSED, mq_subscription_flush(consumer.subscription, 0));
  wait_for(&consumer.ends, 1);
  CHECK(consumer.end == MQ_STATUS_CLOSED && consumer.messages == 100);
  mq_subscription_free(consumer.subscription);
  CHECK(consumer.ends == 1);
  mq_client_free(consumer.client);
}

// Freed from outside, no call follows, not even of the end.
static void freed_it_is_silent(void) {
  for (int i = 0; i < 50; i++) {
    struct consumer *consumer = calloc(1, sizeof *consumer);
    OK(mq_connect("mq:memory", NULL, &consumer->client));
    start(consumer);
    publish(consumer->client, "t", "message");
    if (i % 2 == 0) {
      wait_for(&consumer->messages, 1);
    }
    mq_subscription_free(consumer->subscription);
    CHECK(consumer->ends == 0);
    mq_client_free(consumer->client);
    free(consumer);
  }
}

static atomic_int is_inside, may_end, has_ended;

static void on_slow_batch(void *user_data, mq_status status, mq_batch *batch) {
  CHECK(user_data == NULL && status == MQ_STATUS_OK);
  atomic_store(&is_inside, 1);
  while (atomic_load(&may_end) == 0) {
    sched_yield();
  }
  mq_batch_free(batch);
  atomic_store(&has_ended, 1);
}

static void *let_it_end(void *unused) {
  // Late, so that a free that waits for nothing is back before.
  for (int i = 0; i < 1000; i++) {
    sched_yield();
  }
  atomic_store(&may_end, 1);
  return unused;
}

// Freed from outside while a call runs, it waits for that call.
static void freed_it_waits_for_the_call_that_runs(void) {
  mq_client *client;
  mq_subscription *subscription;
  pthread_t other;
  mq_subscribe_options settings = MQ_SUBSCRIBE_OPTIONS_INIT;
  settings.on_batch = on_slow_batch;
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_subscribe(client, "t", "c", &settings, &subscription));
  publish(client, "t", "message");
  while (atomic_load(&is_inside) == 0) {
    sched_yield();
  }
  CHECK(pthread_create(&other, NULL, let_it_end, NULL) == 0);
  mq_subscription_free(subscription);
  CHECK(atomic_load(&has_ended) == 1);
  CHECK(pthread_join(other, NULL) == 0);
  mq_client_free(client);
}

static void freed_inside_it_ends_on_return(void) {
  char folder[] = "/tmp/libmq-c-XXXXXX", url[64], remove[96];
  CHECK(mkdtemp(folder) != NULL);
  snprintf(url, sizeof url, "%s/data", folder);
  struct consumer consumer = {0};
  consumer.free_at = 1;
  OK(mq_connect(url, NULL, &consumer.client));
  mq_span body = span("message");
  OK(mq_publish(consumer.client, "t", &body, 1, NULL, NULL));
  start(&consumer);
  wait_for(&consumer.messages, 1);
  // The broker of the folder has stopped soon after, with the message finished.
  mq_client *again;
  mq_status opened;
  do {
    opened = mq_connect(url, NULL, &again);
  } while (opened == MQ_STATUS_LOCKED);
  CHECK(opened == MQ_STATUS_OK && consumer.subscription == NULL && consumer.ends == 0);
  mq_subscription *subscription;
  mq_batch *batch;
  OK(mq_subscribe(again, "t", "c", NULL, &subscription));
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  mq_subscription_free(subscription);
  mq_client_free(again);
  snprintf(remove, sizeof remove, "rm -r %s", folder);
  CHECK(system(remove) == 0);
}

int main(void) {
  batches_come_and_the_end_once();
  freed_it_is_silent();
  freed_it_waits_for_the_call_that_runs();
  freed_inside_it_ends_on_return();
  return 0;
}
