// The body of a message whose batch is freed.

#include "../check.h"

int main(void) {
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  mq_message message;
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  publish(client, "t", "message");
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_batch_message(batch, 0, &message));
  mq_batch_free(batch);
  putchar(message.body.data[0]);
  mq_subscription_free(subscription);
  mq_client_free(client);
  return 0;
}
