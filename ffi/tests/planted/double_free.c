// A batch that is freed twice.

#include "../check.h"

int main(void) {
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  publish(client, "t", "message");
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  mq_batch_free(batch);
  mq_batch_free(batch);
  mq_subscription_free(subscription);
  mq_client_free(client);
  return 0;
}
