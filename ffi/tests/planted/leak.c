// A batch that nobody frees.

#include "../check.h"

static void forget(mq_subscription *subscription) {
  mq_batch *batch;
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
}

int main(void) {
  mq_client *client;
  mq_subscription *subscription;
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  publish(client, "t", "message");
  forget(subscription);
  mq_subscription_free(subscription);
  mq_client_free(client);
  return 0;
}
