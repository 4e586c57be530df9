// Descriptors in event loops: readable exactly while a poll gives something.

#define _DEFAULT_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "check.h"

enum { MAX_BATCH = 7 };

static int is_readable(int fd, int timeout_ms) {
  struct pollfd wanted = {fd, POLLIN, 0};
  int ready = poll(&wanted, 1, timeout_ms);
  CHECK(ready >= 0);
  return ready == 1 && (wanted.revents & POLLIN) != 0;
}

// Takes all that comes until `wanted` messages are finished, and holds the descriptor against each poll.
static void consume(mq_subscription *subscription, int fd, size_t wanted) {
  while (wanted > 0) {
    CHECK(is_readable(fd, PATIENCE_MS));
    mq_batch *batch;
    OK(mq_subscription_poll(subscription, &batch));
    size_t len = mq_batch_len(batch);
    CHECK(len >= 1 && len <= wanted && len <= MAX_BATCH);
    OK(mq_batch_finish(batch, 0, len));
    mq_batch_free(batch);
    wanted -= len;
  }
}

static void readable_while_something_is_there(void) {
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  OK(mq_connect("mq:memory", NULL, &client));
  mq_subscribe_options settings = MQ_SUBSCRIBE_OPTIONS_INIT;
  settings.max_batch = MAX_BATCH;
  OK(mq_subscribe(client, "t", "c", &settings, &subscription));
  int fd = mq_subscription_fd(subscription);
  CHECK(fd >= 0 && mq_subscription_fd(subscription) == fd);
  CHECK(!is_readable(fd, 0));
  STATUS(MQ_STATUS_EMPTY, mq_subscription_poll(subscription, &batch));
  for (int round = 1; round <= 50; round++) {
    for (int i = 0; i < round; i++) {
      publish(client, "t", "message");
    }
    consume(subscription, fd, (size_t)round);
    CHECK(!is_readable(fd, 0));
    STATUS(MQ_STATUS_EMPTY, mq_subscription_poll(subscription, &batch));
  }

  // What waits is found by a blocking wait too, and one without anything ends in time.
  publish(client, "t", "message");
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_batch_finish(batch, 0, 1));
  mq_batch_free(batch);
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 1, &batch));

  // The end is something too, and stays.
  OK(mq_subscription_close(subscription, -1));
  for (int i = 0; i < 2; i++) {
    CHECK(is_readable(fd, PATIENCE_MS));
    STATUS(MQ_STATUS_CLOSED, mq_subscription_poll(subscription, &batch));
  }
  mq_subscription_free(subscription);
  mq_client_free(client);
}

static atomic_int waiting;

static void *wait_for_the_end(void *subscription) {
  mq_batch *batch;
  atomic_fetch_add(&waiting, 1);
  STATUS(MQ_STATUS_CLOSED, mq_subscription_next(subscription, -1, &batch));
  return NULL;
}

// Threads that wait beside a descriptor all have the end, not one of them. More than one round, since a thread may come
// to its wait only after the end.
static void every_wait_ends_with_its_subscription(void) {
  mq_client *client;
  OK(mq_connect("mq:memory", NULL, &client));
  for (int round = 0; round < 20; round++) {
    mq_subscription *subscription;
    pthread_t threads[4];
    OK(mq_subscribe(client, "t", "c", NULL, &subscription));
    CHECK(mq_subscription_fd(subscription) >= 0);
    atomic_store(&waiting, 0);
    for (int i = 0; i < 4; i++) {
      CHECK(pthread_create(&threads[i], NULL, wait_for_the_end, subscription) == 0);
    }
    while (atomic_load(&waiting) < 4) {
      sched_yield();
    }
    // Ends the process if one of them waits for ever.
    alarm(PATIENCE_MS / 1000);
    OK(mq_subscription_close(subscription, -1));
    for (int i = 0; i < 4; i++) {
      CHECK(pthread_join(threads[i], NULL) == 0);
    }
    alarm(0);
    mq_subscription_free(subscription);
  }
  mq_client_free(client);
}

// Several subscriptions in one epoll loop; messages of each come in the order of their publishes.
static void many_in_one_loop(void) {
  enum { SUBSCRIPTIONS = 5, MESSAGES = 200 };
  mq_client *client;
  mq_subscription *subscriptions[SUBSCRIPTIONS];
  int next[SUBSCRIPTIONS] = {0}, left = SUBSCRIPTIONS * MESSAGES;
  OK(mq_connect("mq:memory", NULL, &client));
  int loop = epoll_create1(0);
  CHECK(loop >= 0);
  mq_subscribe_options settings = MQ_SUBSCRIBE_OPTIONS_INIT;
  settings.max_in_flight = 20;
  settings.max_batch = 3;
  for (int i = 0; i < SUBSCRIPTIONS; i++) {
    char channel[16];
    snprintf(channel, sizeof channel, "c%d", i);
    OK(mq_subscribe(client, "t", channel, &settings, &subscriptions[i]));
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = (uint32_t)i}};
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, mq_subscription_fd(subscriptions[i]), &event) == 0);
  }
  for (int i = 0; i < MESSAGES; i++) {
    char body[16];
    snprintf(body, sizeof body, "%d", i);
    publish(client, "t", body);
  }
  while (left > 0) {
    struct epoll_event events[SUBSCRIPTIONS];
    int ready = epoll_wait(loop, events, SUBSCRIPTIONS, PATIENCE_MS);
    CHECK(ready > 0);
    for (int e = 0; e < ready; e++) {
      uint32_t i = events[e].data.u32;
      mq_batch *batch;
      OK(mq_subscription_poll(subscriptions[i], &batch));
      for (size_t at = 0; at < mq_batch_len(batch); at++, left--) {
        mq_message message;
        char body[16];
        OK(mq_batch_message(batch, at, &message));
        snprintf(body, sizeof body, "%d", next[i]++);
        CHECK(is(message.body, body));
      }
      OK(mq_batch_finish(batch, 0, mq_batch_len(batch)));
      mq_batch_free(batch);
    }
  }
  // Freed with a batch fetched, its messages go back.
  publish(client, "t", "again");
  CHECK(is_readable(mq_subscription_fd(subscriptions[0]), PATIENCE_MS));
  for (int i = 0; i < SUBSCRIPTIONS; i++) {
    mq_subscription_free(subscriptions[i]);
  }
  mq_subscription *other;
  mq_batch *batch;
  OK(mq_subscribe(client, "t", "c0", NULL, &other));
  OK(mq_subscription_next(other, PATIENCE_MS, &batch));
  CHECK(mq_batch_len(batch) == 1);
  mq_batch_free(batch);
  mq_subscription_free(other);
  close(loop);
  mq_client_free(client);
}

int main(void) {
  every_wait_ends_with_its_subscription();
  readable_while_something_is_there();
  many_in_one_loop();
  return 0;
}
