// An embedded queue: publishing, consuming, answers, and the order in which handles are freed.

#include "check.h"

static void publish_and_consume(void) {
  mq_client *client;
  OK(mq_connect("mq:memory", NULL, &client));
  mq_subscription *subscription;
  mq_subscribe_options settings = MQ_SUBSCRIBE_OPTIONS_INIT;
  settings.max_in_flight = 10;
  OK(mq_subscribe(client, "orders", "billing", &settings, &subscription));

  mq_span bodies[3] = {span("one"), span("two"), {"th\0ree", 6}};
  mq_header header = {span("colour"), span("red")};
  mq_publish_options options = MQ_PUBLISH_OPTIONS_INIT;
  options.headers = &header;
  options.headers_len = 1;
  mq_receipt receipts[3];
  OK(mq_publish(client, "orders", bodies, 3, &options, receipts));
  CHECK(receipts[1].offset == receipts[0].offset + 1 && !receipts[2].duplicate);

  mq_batch *batch;
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  CHECK(mq_batch_len(batch) == 3);
  mq_message messages[3];
  OK(mq_batch_messages(batch, 0, 3, messages));
  CHECK(is(messages[0].body, "one") && is(messages[1].body, "two"));
  CHECK(messages[2].body.len == 6 && memcmp(messages[2].body.data, "th\0ree", 6) == 0);
  CHECK(messages[0].attempts == 1 && messages[0].timestamp_ns > 1500000000000000000u);
  CHECK(messages[1].offset == receipts[1].offset && is(messages[1].broker, "mq:memory"));
  CHECK(messages[2].headers_len == 1 && is(messages[2].headers[0].name, "colour"));
  CHECK(is(messages[2].headers[0].value, "red"));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_batch_message(batch, 3, messages));
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_batch_finish(batch, 2, 1));

  // The second comes again, with its headers; the others are done.
  OK(mq_batch_touch(batch, 0, 3));
  OK(mq_batch_finish(batch, 0, 1));
  OK(mq_batch_release(batch, 2, 3));
  OK(mq_batch_finish(batch, 2, 3));
  mq_batch *released;
  OK(mq_subscription_next(subscription, PATIENCE_MS, &released));
  OK(mq_batch_message(released, 0, messages));
  CHECK(mq_batch_len(released) == 1 && messages[0].attempts == 1 && messages[0].body.len == 6);
  OK(mq_batch_finish(released, 0, 1));
  mq_batch_free(released);
  OK(mq_batch_requeue(batch, 1, 2, 0));
  mq_batch_free(batch);
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  CHECK(mq_batch_len(batch) == 1);
  OK(mq_batch_message(batch, 0, messages));
  CHECK(is(messages[0].body, "two") && messages[0].attempts == 2 && messages[0].headers_len == 1);
  OK(mq_batch_finish(batch, 0, 1));
  mq_batch_free(batch);
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  OK(mq_subscription_close(subscription, -1));
  STATUS(MQ_STATUS_CLOSED, mq_subscription_next(subscription, -1, &batch));
  mq_subscription_free(subscription);
  mq_client_free(client);
}

static void ids_and_delays(void) {
  mq_client *client;
  OK(mq_connect("mq:memory", NULL, &client));
  mq_span bodies[2] = {span("one"), span("two")};
  mq_span ids[2] = {span("1"), span("2")};
  mq_publish_options options = MQ_PUBLISH_OPTIONS_INIT;
  mq_receipt receipts[2];
  options.id = span("2");
  OK(mq_publish(client, "orders", &bodies[1], 1, &options, receipts));
  CHECK(!receipts[0].duplicate);
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_publish(client, "orders", bodies, 2, &options, receipts));
  options.id = span("");
  options.ids = ids;
  OK(mq_publish(client, "orders", bodies, 2, &options, receipts));
  CHECK(!receipts[0].duplicate && receipts[1].duplicate);

  mq_subscription *subscription;
  mq_batch *batch;
  mq_publish_options later = MQ_PUBLISH_OPTIONS_INIT;
  later.delay_ms = 3600000;
  OK(mq_publish(client, "later", bodies, 2, &later, NULL));
  OK(mq_subscribe(client, "later", "all", NULL, &subscription));
  STATUS(MQ_STATUS_TIMEOUT, mq_subscription_next(subscription, 0, &batch));
  mq_subscription_free(subscription);
  mq_client_free(client);
}

// Handles go in any order, and a batch lives longest.
static void free_in_any_order(void) {
  for (int order = 0; order < 6; order++) {
    mq_client *client;
    mq_subscription *subscription;
    mq_batch *batch;
    mq_message message;
    OK(mq_connect("mq:memory", NULL, &client));
    OK(mq_subscribe(client, "orders", "billing", NULL, &subscription));
    publish(client, "orders", "one");
    OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
    int first = order / 2, second = (first + 1 + order % 2) % 3;
    for (int i = 0; i < 3; i++) {
      int which = i == 0 ? first : i == 1 ? second : 3 - first - second;
      if (which == 0) {
        mq_client_free(client);
      } else if (which == 1) {
        mq_subscription_free(subscription);
      } else {
        OK(mq_batch_message(batch, 0, &message));
        CHECK(is(message.body, "one"));
        OK(mq_batch_finish(batch, 0, 1));
        mq_batch_free(batch);
      }
    }
  }
  mq_client_free(NULL);
  mq_subscription_free(NULL);
  mq_batch_free(NULL);
}

int main(void) {
  publish_and_consume();
  ids_and_delays();
  free_in_any_order();
  return 0;
}
