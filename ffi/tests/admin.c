// Topics, channels, statistics and the clock of an embedded broker.

#include <sched.h>

#include "check.h"

static int stats_have(mq_client *client, const char *text);

// A count that comes soon: a dead letter is in its topic before its channel is rid of it.
static void wait_for_stats(mq_client *client, const char *text) {
  while (!stats_have(client, text)) {
    sched_yield();
  }
}

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

static void a_topics_settings(void) {
  mq_client *client;
  mq_topic_settings settings = MQ_TOPIC_SETTINGS_INIT;
  OK(mq_connect("mq:memory", NULL, &client));
  STATUS(MQ_STATUS_REFUSED, mq_topic_get_settings(client, "t", &settings));
  OK(mq_topic_create(client, "t"));
  OK(mq_channel_create(client, "t", "c"));
  OK(mq_topic_get_settings(client, "t", &settings));
  CHECK(settings.durability == MQ_DURABILITY_MEMORY && settings.max_messages == 0);
  settings.max_messages = 1;
  settings.max_age_ms = 60000;
  settings.dedup_window_ms = MQ_DEDUP_OFF;
  OK(mq_topic_set_settings(client, "t", &settings));
  mq_topic_settings now = MQ_TOPIC_SETTINGS_INIT;
  OK(mq_topic_get_settings(client, "t", &now));
  CHECK(memcmp(&now, &settings, sizeof now) == 0);

  publish(client, "t", "message");
  mq_span body = span("one too many");
  STATUS(MQ_STATUS_REFUSED, mq_publish(client, "t", &body, 1, NULL, NULL));
  settings.overflow = MQ_OVERFLOW_DROP_OLDEST;
  OK(mq_topic_set_settings(client, "t", &settings));
  publish(client, "t", "the newest");
  CHECK(stats_have(client, "\"depth\":1"));

  settings.overflow = 7;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_topic_set_settings(client, "t", &settings));
  settings.size = 8;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_topic_get_settings(client, "t", &settings));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_topic_set_settings(client, "t", NULL));
  mq_client_free(client);
}

// Takes the next message of a subscription, which has to be this one, and requeues or finishes it.
static void answer(mq_subscription *subscription, const char *body, int is_finished) {
  mq_batch *batch;
  mq_message message;
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  CHECK(mq_batch_len(batch) == 1);
  OK(mq_batch_message(batch, 0, &message));
  CHECK(is(message.body, body));
  OK(is_finished ? mq_batch_finish(batch, 0, 1) : mq_batch_requeue(batch, 0, 1, 0));
  mq_batch_free(batch);
}

// The value of a header; empty if there is none.
static mq_span header(const mq_message *message, const char *name) {
  mq_span none = {NULL, 0};
  for (size_t i = 0; i < message->headers_len; i++) {
    if (is(message->headers[i].name, name)) {
      return message->headers[i].value;
    }
  }
  return none;
}

static void limit_attempts(mq_client *client, uint16_t max) {
  mq_channel_settings settings = MQ_CHANNEL_SETTINGS_INIT;
  OK(mq_channel_create(client, "t", "c"));
  OK(mq_channel_get_settings(client, "t", "c", &settings));
  settings.max_attempts = max;
  strcpy(settings.dead_letter_topic, "t.dead");
  OK(mq_channel_set_settings(client, "t", "c", &settings));
}

static void a_channels_settings(void) {
  mq_client *client;
  mq_channel_settings settings = MQ_CHANNEL_SETTINGS_INIT, now = MQ_CHANNEL_SETTINGS_INIT;
  OK(mq_connect("mq:memory", NULL, &client));
  STATUS(MQ_STATUS_REFUSED, mq_channel_get_settings(client, "t", "c", &settings));
  OK(mq_channel_create(client, "t", "c"));
  OK(mq_channel_get_settings(client, "t", "c", &settings));
  CHECK(settings.size == sizeof settings && settings.max_attempts == 0 && settings.redelivery_delay_ms == 1000);
  CHECK(strlen(settings.dead_letter_topic) == 0);
  settings.max_attempts = UINT16_MAX;
  settings.redelivery_delay_ms = 0;
  // The longest name that there can be.
  memset(settings.dead_letter_topic, 'n', 64);
  OK(mq_channel_set_settings(client, "t", "c", &settings));
  OK(mq_channel_get_settings(client, "t", "c", &now));
  CHECK(memcmp(&now, &settings, sizeof now) == 0);

  // A limit without a topic would lose messages; a topic has to have a name, and be another one.
  now.max_attempts = 0;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_channel_set_settings(client, "t", "c", &now));
  now.max_attempts = 1;
  memset(now.dead_letter_topic, 0, sizeof now.dead_letter_topic);
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_channel_set_settings(client, "t", "c", &now));
  CHECK(strstr(mq_last_error(), "dead_letter_topic") != NULL);
  strcpy(now.dead_letter_topic, "t");
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_channel_set_settings(client, "t", "c", &now));
  strcpy(now.dead_letter_topic, "no name");
  STATUS(MQ_STATUS_INVALID_NAME, mq_channel_set_settings(client, "t", "c", &now));
  memset(now.dead_letter_topic, 'n', sizeof now.dead_letter_topic);
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_channel_set_settings(client, "t", "c", &now));
  // None of them has changed anything.
  OK(mq_channel_get_settings(client, "t", "c", &now));
  CHECK(memcmp(&now, &settings, sizeof now) == 0);

  // A newer program has more room, which is left as it is.
  struct {
    mq_channel_settings known;
    unsigned char more[16], untouched[16];
  } newer = {.known = {.size = sizeof newer.known + sizeof newer.more}};
  memset(newer.more, 0, sizeof newer.more);
  memset(newer.untouched, 7, sizeof newer.untouched);
  OK(mq_channel_get_settings(client, "t", "c", &newer.known));
  CHECK(newer.known.size == sizeof newer.known + sizeof newer.more && newer.known.max_attempts == UINT16_MAX);
  for (size_t i = 0; i < sizeof newer.more; i++) {
    CHECK(newer.more[i] == 0 && newer.untouched[i] == 7);
  }
  OK(mq_channel_set_settings(client, "t", "c", &newer.known));
  newer.more[3] = 1;
  STATUS(MQ_STATUS_UNSUPPORTED, mq_channel_set_settings(client, "t", "c", &newer.known));

  STATUS(MQ_STATUS_INVALID_NAME, mq_channel_set_settings(client, "t", "c c", &settings));
  STATUS(MQ_STATUS_INVALID_NAME, mq_channel_get_settings(client, "t t", "c", &settings));
  STATUS(MQ_STATUS_REFUSED, mq_channel_set_settings(client, "t", "other", &settings));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_channel_get_settings(client, "t", "c", NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_channel_set_settings(client, "t", "c", NULL));
  settings.size = 8;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_channel_get_settings(client, "t", "c", &settings));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_channel_set_settings(client, "t", "c", &settings));
  mq_client_free(client);
}

// What cannot be done ends in a topic of its own, with where it comes from, and is counted.
static void dead_letters(mq_client *broker, const char *url) {
  mq_client *client;
  mq_subscription *work, *dead;
  mq_batch *batch;
  mq_message message;
  limit_attempts(broker, 2);
  OK(mq_connect(url, NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &work));
  OK(mq_subscribe(client, "t.dead", "c", NULL, &dead));
  publish(client, "t", "poison");
  answer(work, "poison", 0);
  CHECK(stats_have(broker, "\"dead_lettered\":0") && !stats_have(broker, "\"dead_lettered\":1"));
  answer(work, "poison", 0);
  OK(mq_subscription_next(dead, PATIENCE_MS, &batch));
  OK(mq_batch_message(batch, 0, &message));
  CHECK(is(message.body, "poison") && is(header(&message, "mq-dead-letter-topic"), "t"));
  CHECK(is(header(&message, "mq-dead-letter-attempts"), "2"));
  OK(mq_batch_finish(batch, 0, 1));
  mq_batch_free(batch);
  wait_for_stats(broker, "\"dead_lettered\":1");
  // The channel goes on.
  publish(client, "t", "fine");
  answer(work, "fine", 1);
  mq_subscription_free(work);
  mq_subscription_free(dead);
  OK(mq_client_close(client, PATIENCE_MS));
  mq_client_free(client);
}

static void dead_letters_in_this_process(void) {
  mq_client *client;
  mq_subscription *work, *dead;
  OK(mq_connect("mq:memory", NULL, &client));
  limit_attempts(client, 1);
  OK(mq_subscribe(client, "t", "c", NULL, &work));
  OK(mq_subscribe(client, "t.dead", "c", NULL, &dead));
  publish(client, "t", "poison");
  answer(work, "poison", 0);
  answer(dead, "poison", 1);
  wait_for_stats(client, "\"dead_lettered\":1");
  mq_subscription_free(work);
  mq_subscription_free(dead);
  mq_client_free(client);
}

static void dead_letters_over_the_network(void) {
  mq_client *broker, *client;
  mq_addresses addresses;
  mq_channel_settings settings = MQ_CHANNEL_SETTINGS_INIT;
  const char *flags[] = {"--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address="};
  char url[64];
  OK(mq_connect("mq:memory", NULL, &broker));
  OK(mq_client_serve(broker, flags, 3, &addresses));
  snprintf(url, sizeof url, "mq://%s", addresses.tcp);
  mq_addresses_free(&addresses);
  dead_letters(broker, url);
  OK(mq_connect(url, NULL, &client));
  STATUS(MQ_STATUS_UNSUPPORTED, mq_channel_get_settings(client, "t", "c", &settings));
  STATUS(MQ_STATUS_UNSUPPORTED, mq_channel_set_settings(client, "t", "c", &settings));
  mq_client_free(client);
  OK(mq_client_close(broker, -1));
  mq_client_free(broker);
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
  CHECK(failure.status != MQ_STATUS_OK && is(failure.broker, "mq:memory"));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_failures_get(failures, 1, &failure));
  mq_failures_free(failures);
  mq_batch_free(batch);
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_batch_message(batch, 0, &message));
  CHECK(message.attempts == 2);

  // Returned with a delay, it comes when that is over.
  OK(mq_batch_requeue(batch, 0, 1, 3600 * 1000));
  mq_batch_free(batch);
  OK(mq_client_advance(client, 3599 * 1000));
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  OK(mq_client_advance(client, 1000));
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
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

static void serving(void) {
  mq_client *client;
  mq_addresses addresses;
  const char *flags[] = {"--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--grpc-address="};
  OK(mq_connect("mq:memory", NULL, &client));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_client_serve(client, flags, 3, NULL));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_client_serve(client, NULL, 3, &addresses));
  OK(mq_client_serve(client, flags, 3, &addresses));
  CHECK(strncmp(addresses.tcp, "127.0.0.1:", 10) == 0 && strncmp(addresses.http, "127.0.0.1:", 10) == 0);
  CHECK(addresses.grpc == NULL && addresses.https == NULL);
  mq_addresses_free(&addresses);
  CHECK(addresses.tcp == NULL);
  mq_addresses_free(&addresses);
  mq_addresses_free(NULL);
  OK(mq_client_close(client, -1));
  mq_client_free(client);
}

int main(void) {
  serving();
  topics_and_channels();
  a_topics_settings();
  a_channels_settings();
  dead_letters_in_this_process();
  dead_letters_over_the_network();
  starts();
  a_clock_for_tests();
  return 0;
}
