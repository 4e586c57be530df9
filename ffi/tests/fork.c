// A child process gets MQ_STATUS_FORKED from each handle, frees them safely, changes nothing of its parent's, and
// opens clients of its own.

#define _DEFAULT_SOURCE
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static int child(mq_client *client, mq_subscription *subscription, mq_batch *batch) {
  mq_span body = span("child");
  mq_batch *more;
  mq_message message;
  STATUS(MQ_STATUS_FORKED, mq_publish(client, "t", &body, 1, NULL, NULL));
  CHECK(strstr(mq_last_error(), "fork") != NULL);
  STATUS(MQ_STATUS_FORKED, mq_client_close(client, -1));
  STATUS(MQ_STATUS_FORKED, mq_client_flush(client, -1, NULL));
  STATUS(MQ_STATUS_FORKED, mq_subscribe(client, "t", "c", NULL, &subscription));
  STATUS(MQ_STATUS_FORKED, mq_subscription_next(subscription, -1, &more));
  STATUS(MQ_STATUS_FORKED, mq_subscription_poll(subscription, &more));
  STATUS(MQ_STATUS_FORKED, mq_subscription_close(subscription, -1));
  STATUS(MQ_STATUS_FORKED, mq_batch_message(batch, 0, &message));
  STATUS(MQ_STATUS_FORKED, mq_batch_finish(batch, 0, 1));
  CHECK(mq_subscription_fd(subscription) == -1 && mq_batch_len(batch) == 0);
  mq_batch_free(batch);
  mq_subscription_free(subscription);
  mq_client_free(client);
  // A client of its own.
  OK(mq_connect("mq:memory", NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  publish(client, "t", "own");
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  OK(mq_batch_message(batch, 0, &message));
  CHECK(is(message.body, "own"));
  OK(mq_batch_finish(batch, 0, 1));
  mq_batch_free(batch);
  mq_subscription_free(subscription);
  mq_client_free(client);
  return 0;
}

int main(void) {
  char folder[] = "/tmp/libmq-c-XXXXXX", url[64], remove[96];
  CHECK(mkdtemp(folder) != NULL);
  snprintf(url, sizeof url, "%s/data", folder);
  mq_client *client;
  mq_subscription *subscription;
  mq_batch *batch;
  OK(mq_connect(url, NULL, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  CHECK(mq_subscription_fd(subscription) >= 0);
  publish(client, "t", "parent");
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    // Through exit: handlers and destructors run too.
    exit(child(client, subscription, batch));
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  mq_message message;
  OK(mq_batch_message(batch, 0, &message));
  CHECK(is(message.body, "parent"));
  OK(mq_batch_finish(batch, 0, 1));
  mq_batch_free(batch);
  publish(client, "t", "after");
  OK(mq_subscription_next(subscription, PATIENCE_MS, &batch));
  CHECK(mq_batch_len(batch) == 1);
  OK(mq_batch_finish(batch, 0, 1));
  mq_batch_free(batch);
  mq_subscription_free(subscription);
  mq_client_free(client);
  OK(mq_connect(url, NULL, &client));
  mq_client_free(client);
  snprintf(remove, sizeof remove, "rm -r %s", folder);
  CHECK(system(remove) == 0);
  return 0;
}
