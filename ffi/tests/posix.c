// POSIX's message queues and ours in one program: neither takes the other's names.

#define _DEFAULT_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <unistd.h>

#include "check.h"

static void theirs(void) {
  char name[32], got[64];
  snprintf(name, sizeof name, "/libmq-c-%d", (int)getpid());
  struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = sizeof got};
  errno = 0;
  mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
  if (queue == (mqd_t)-1) {
    // Some containers have none: the answer is the system's all the same.
    CHECK(errno == ENOSYS || errno == EACCES || errno == EPERM || errno == ENOSPC || errno == EMFILE);
    return;
  }
  CHECK(mq_send(queue, "theirs", 6, 0) == 0);
  CHECK(mq_receive(queue, got, sizeof got, NULL) == 6 && memcmp(got, "theirs", 6) == 0);
  CHECK(mq_close(queue) == 0 && mq_unlink(name) == 0);
}

int main(void) {
  theirs();
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  mq_message message;
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  publish(client, "t", "ours");
  theirs();
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_batch_message(batch, 0, &message));
  CHECK(is(message.body, "ours"));
  mq_batch_free(batch);
  mq_subscription_free(subscription);
  mq_client_free(client);
  theirs();
  return 0;
}
