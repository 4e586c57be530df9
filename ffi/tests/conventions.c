// What holds for every function: statuses, errors of a thread, NULL, options of any age, values out of range.

#define _DEFAULT_SOURCE
#include <pthread.h>
#include <sched.h>

#include "check.h"

static void null_is_refused_by_name(mq_client *client, mq_subscription *subscription) {
  mq_client *made = NULL;
  mq_subscription *subscribed = NULL;
  mq_batch *batch = NULL;
  mq_message message;
  mq_span body = span("one");
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect(NULL, NULL, &made));
  CHECK(strstr(mq_last_error(), "url is NULL") != NULL);
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq:memory", NULL, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish(NULL, "t", &body, 1, NULL, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish(client, NULL, &body, 1, NULL, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish(client, "t", NULL, 1, NULL, NULL));
  OK(mq_publish(client, "t", NULL, 0, NULL, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_subscribe(client, "t", NULL, NULL, &subscribed));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_subscribe(client, "t", "c", NULL, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_subscription_next(NULL, 0, &batch));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_subscription_next(subscription, 0, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_subscription_poll(NULL, &batch));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_batch_message(NULL, 0, &message));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_batch_finish(NULL, 0, 0));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_client_close(NULL, 0));
  CHECK(mq_subscription_fd(NULL) == -1 && mq_batch_len(NULL) == 0);
  CHECK(made == NULL && subscribed == NULL && batch == NULL);
}

static void mistakes_have_their_status(mq_client *client) {
  mq_client *made = NULL;
  mq_subscription *subscription;
  mq_span body = span("one"), empty = span(""), nowhere = {NULL, 3}, endless = {"x", SIZE_MAX};
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("localhost:4150", NULL, &made));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq:memory?no_such=1", NULL, &made));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("\xff", NULL, &made));
  STATUS(MQ_STATUS_INVALID_NAME, mq_publish(client, "no topic", &body, 1, NULL, NULL));
  STATUS(MQ_STATUS_INVALID_NAME, mq_subscribe(client, "t", "no channel", NULL, &subscription));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish(client, "t", &empty, 1, NULL, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish(client, "t", &nowhere, 1, NULL, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish(client, "t", &endless, 1, NULL, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish(client, "t", &body, SIZE_MAX / 4, NULL, NULL));
  CHECK(!mq_last_error_retry());
  CHECK(strcmp(mq_status_name(MQ_STATUS_BUFFER_FULL), "MQ_STATUS_BUFFER_FULL") == 0);
  CHECK(strstr(mq_status_name(12345), "unknown") != NULL);
  CHECK(mq_abi_version() == MQ_ABI_VERSION && strchr(mq_version(), '.') != NULL);
}

static void options_are_checked(mq_client *client) {
  mq_client *made = NULL;
  mq_subscription *subscription;
  mq_config config = MQ_CONFIG_INIT;
  config.durability = 77;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq:memory", &config, &made));
  config.durability = MQ_DURABILITY_MEMORY;
  config.publish_timeout_ms = UINT64_MAX;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq:memory", &config, &made));
  CHECK(strstr(mq_last_error(), "publish_timeout") != NULL);
  config.publish_timeout_ms = 0;
  config.size = 0;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq:memory", &config, &made));

  // A program of a newer header, which has one field more.
  struct {
    mq_config known;
    uint64_t newer;
  } grown = {MQ_CONFIG_INIT, 0};
  grown.known.size = sizeof grown;
  OK(mq_connect("mq:memory", &grown.known, &made));
  mq_client_free(made);
  made = NULL;
  grown.newer = 1;
  STATUS(MQ_STATUS_UNSUPPORTED, mq_connect("mq:memory", &grown.known, &made));
  CHECK(made == NULL);

  mq_subscribe_options settings = MQ_SUBSCRIBE_OPTIONS_INIT;
  settings.start = -1;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_subscribe(client, "t", "c", &settings, &subscription));
  settings.start = MQ_START_WAITING;
  settings.max_in_flight = 2000000;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_subscribe(client, "t", "c", &settings, &subscription));
}

static void a_full_buffer_and_a_broker_out_of_reach(void) {
  mq_client *client;
  mq_config config = MQ_CONFIG_INIT;
  config.publish_timeout_ms = 50;
  mq_span body = span("one");
  // Nothing listens on port 1.
  OK(mq_connect("mq://127.0.0.1:1", &config, &client));
  STATUS(MQ_STATUS_TIMEOUT, mq_publish(client, "t", &body, 1, NULL, NULL));
  CHECK(mq_last_error_retry() && strlen(mq_last_error()) > 10);
  mq_publish_options options = MQ_PUBLISH_OPTIONS_INIT;
  options.id = span("an id");
  STATUS(MQ_STATUS_TIMEOUT, mq_publish(client, "t", &body, 1, &options, NULL));
  mq_client_free(client);
}

static void a_failure_has_the_status_of_its_reason(void) {
  mq_client *client;
  mq_subscription *subscription;
  mq_failures *failures = NULL;
  mq_failure failure;
  OK(mq_connect("mq://127.0.0.1:1", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  do {
    mq_failures_free(failures);
    OK(mq_subscription_failures(subscription, &failures));
    sched_yield();
  } while (mq_failures_len(failures) == 0);
  OK(mq_failures_get(failures, 0, &failure));
  CHECK(failure.status == MQ_STATUS_UNREACHABLE && !failure.has_message && is(failure.broker, "127.0.0.1:1"));
  mq_failures_free(failures);
  mq_subscription_free(subscription);
  mq_client_free(client);
}

// That nothing is there is no error: the last one stays.
static void a_wait_for_nothing_leaves_the_last_error(void) {
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  STATUS(MQ_STATUS_INVALID_NAME, mq_topic_create(client, "no name"));
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  STATUS(MQ_STATUS_EMPTY, mq_subscription_poll(subscription, &batch));
  CHECK(strstr(mq_last_error(), "no name") != NULL);
  mq_subscription_free(subscription);
  mq_client_free(client);
}

static void a_publish_has_a_time_of_its_own(void) {
  mq_client *client;
  mq_config config = MQ_CONFIG_INIT;
  config.publish_timeout_ms = 24 * 3600 * 1000;
  mq_span body = span("one");
  mq_publish_options options = MQ_PUBLISH_OPTIONS_INIT;
  options.timeout_ms = 10;
  // Nothing listens on port 1: without a time of its own this would wait for a day.
  OK(mq_connect("mq://127.0.0.1:1", &config, &client));
  STATUS(MQ_STATUS_TIMEOUT, mq_publish(client, "t", &body, 1, &options, NULL));
  size_t unfinished;
  OK(mq_client_flush(client, 0, &unfinished));
  CHECK(unfinished == 0);
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish_async(client, "t", &body, 1, &options, NULL, NULL, NULL));
  CHECK(strstr(mq_last_error(), "mq_pending_wait") != NULL);
  // A program of before has no such field.
  options.size = offsetof(mq_publish_options, timeout_ms);
  OK(mq_publish_async(client, "t", &body, 1, &options, NULL, NULL, NULL));
  mq_client_free(client);
}

static void a_folder_is_open_once(void) {
  char folder[] = "/tmp/libmq-c-XXXXXX", url[64];
  CHECK(mkdtemp(folder) != NULL);
  snprintf(url, sizeof url, "%s/data", folder);
  mq_client *client, *second;
  OK(mq_connect(url, NULL, &client));
  STATUS(MQ_STATUS_LOCKED, mq_connect(url, NULL, &second));
  CHECK(mq_last_error_retry());
  publish(client, "t", "one");
  OK(mq_client_close(client, -1));
  STATUS(MQ_STATUS_CLOSED, mq_publish(client, "t", &(mq_span){"x", 1}, 1, NULL, NULL));
  mq_client_free(client);
  OK(mq_connect(url, NULL, &second));
  mq_client_free(second);
  char remove[96];
  snprintf(remove, sizeof remove, "rm -r %s", folder);
  CHECK(system(remove) == 0);
}

static void *other_thread(void *unused) {
  (void)unused;
  CHECK(strcmp(mq_last_error(), "") == 0);
  mq_client *made;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("", NULL, &made));
  CHECK(strstr(mq_last_error(), "empty") != NULL);
  return NULL;
}

static void an_error_is_of_its_thread(void) {
  mq_client *made;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect(NULL, NULL, &made));
  const char *mine = mq_last_error();
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(mine == mq_last_error() && strstr(mine, "url is NULL") != NULL);
}

int main(void) {
  mq_client *client;
  mq_subscription *subscription;
  CHECK(strcmp(mq_last_error(), "") == 0);
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  null_is_refused_by_name(client, subscription);
  mistakes_have_their_status(client);
  options_are_checked(client);
  an_error_is_of_its_thread();
  mq_subscription_free(subscription);
  mq_client_free(client);
  a_full_buffer_and_a_broker_out_of_reach();
  a_failure_has_the_status_of_its_reason();
  a_wait_for_nothing_leaves_the_last_error();
  a_publish_has_a_time_of_its_own();
  a_folder_is_open_once();
  return 0;
}
