// Topics, channels, statistics and the clock of an embedded broker.

#include "check.h"

static int stats_have(mq_client *client, const char *text) {
  char *json;
  OK(mq_client_stats(client, &json));
  int found = strstr(json, text) != NULL;
  mq_string_free(json);
  return found;
}

static void topics_and_channels(void) {
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_topic_create(client, "t"));
  OK(mq_channel_create(client, "t", "c"));
  CHECK(stats_have(client, "\"name\":\"t\"") && stats_have(client, "\"name\":\"c\""));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));

  OK(mq_channel_pause(client, "t", "c"));
  CHECK(stats_have(client, "\"paused\":true"));
  publish(client, "t", "message");
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  OK(mq_channel_unpause(client, "t", "c"));
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_batch_finish(batch, 0, 1));
  mq_batch_free(batch);

  OK(mq_topic_pause(client, "t"));
  publish(client, "t", "message");
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  OK(mq_topic_empty(client, "t"));
  OK(mq_topic_unpause(client, "t"));
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  OK(mq_channel_pause(client, "t", "c"));
  publish(client, "t", "message");
  OK(mq_channel_empty(client, "t", "c"));
  OK(mq_channel_unpause(client, "t", "c"));
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));

  OK(mq_channel_delete(client, "t", "c"));
  STATUS(MQ_STATUS_CLOSED, mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_topic_delete(client, "t"));
  CHECK(!stats_have(client, "\"name\""));
  STATUS(MQ_STATUS_INVALID_NAME, mq_topic_create(client, "t t"));
  STATUS(MQ_STATUS_INVALID_NAME, mq_channel_create(client, "t", "c c"));
  mq_subscription_free(subscription);
  mq_client_free(client);
  mq_string_free(NULL);
}

static void starts(void) {
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  mq_message message;
  OK(mq_connect("mq:memory", NULL, &client));
  // A channel that finishes nothing keeps the messages.
  OK(mq_channel_create(client, "t", "keeper"));
  mq_span bodies[3] = {span("one"), span("two"), span("three")};
  mq_receipt receipts[3];
  OK(mq_publish(client, "t", bodies, 3, NULL, receipts));
  struct {
    int start;
    uint64_t at;
    const char *first;
  } cases[] = {
      {MQ_START_EARLIEST, 0, "one"}, {MQ_START_OFFSET, receipts[1].offset, "two"}, {MQ_START_LATEST, 0, "four"},
      {MQ_START_TIME, 1, "one"},     {MQ_START_WAITING, 0, "four"},
  };
  mq_subscription *all[5];
  for (size_t i = 0; i < 5; i++) {
    char channel[8];
    snprintf(channel, sizeof channel, "c%d", (int)i);
    mq_subscribe_options settings = MQ_SUBSCRIBE_OPTIONS_INIT;
    settings.start = cases[i].start;
    settings.start_at = cases[i].at;
    OK(mq_subscribe(client, "t", channel, &settings, &all[i]));
  }
  publish(client, "t", "four");
  for (size_t i = 0; i < 5; i++) {
    subscription = all[i];
    OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
    OK(mq_batch_message(batch, 0, &message));
    CHECK(is(message.body, cases[i].first));
    mq_batch_free(batch);
    mq_subscription_free(subscription);
  }
  mq_client_free(client);
}

static void a_clock_for_tests(void) {
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  mq_message message;
  mq_failures *failures;
  mq_failure failure;
  OK(mq_connect("mq:memory?test_clock=true", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  mq_span body = span("later");
  mq_publish_options options = MQ_PUBLISH_OPTIONS_INIT;
  options.delay_ms = 3600 * 1000;
  OK(mq_publish(client, "t", &body, 1, &options, NULL));
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  OK(mq_client_advance(client, 3600 * 1000));
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_batch_message(batch, 0, &message));

  // Too late: the answer fails, and the message comes again.
  OK(mq_client_advance(client, 61 * 1000));
  OK(mq_batch_finish(batch, 0, 1));
  OK(mq_subscription_failures(subscription, &failures));
  CHECK(mq_failures_len(failures) == 1);
  OK(mq_failures_get(failures, 0, &failure));
  CHECK(failure.has_message && failure.message_id == message.id && failure.reason.len > 0);
  CHECK(is(failure.broker, "mq:memory"));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_failures_get(failures, 1, &failure));
  mq_failures_free(failures);
  mq_batch_free(batch);
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_batch_message(batch, 0, &message));
  CHECK(message.attempts == 2);
  mq_batch_free(batch);
  mq_subscription_free(subscription);
  mq_client_free(client);

  OK(mq_connect("mq:memory", NULL, &client));
  STATUS(MQ_STATUS_UNSUPPORTED, mq_client_advance(client, 1));
  mq_client_free(client);
  OK(mq_connect("mq://127.0.0.1:1", NULL, &client));
  STATUS(MQ_STATUS_UNSUPPORTED, mq_topic_create(client, "t"));
  char *json;
  STATUS(MQ_STATUS_UNSUPPORTED, mq_client_stats(client, &json));
  mq_client_free(client);
}

int main(void) {
  topics_and_channels();
  starts();
  a_clock_for_tests();
  return 0;
}
