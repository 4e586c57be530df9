// A queue inside the program: no server, only a folder.
//
//   ./embedded FOLDER

#include <mq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(mq_status status, const char *what) {
  if (status != MQ_STATUS_OK) {
    fprintf(stderr, "%s: %s\n", what, mq_last_error());
    exit(EXIT_FAILURE);
  }
}

static mq_span span(const char *text) { return (mq_span){text, strlen(text)}; }

int main(int argc, char **argv) {
  char url[4096];
  if (argc != 2 || snprintf(url, sizeof url, "mq:%s", argv[1]) >= (int)sizeof url) {
    fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return EXIT_FAILURE;
  }
  mq_client *client;
  mq_subscription *billing;
  must(mq_connect(url, NULL, &client), url);
  must(mq_subscribe(client, "orders", "billing", NULL, &billing), "subscribe");

  // Returns once both are stored. Published again with their ids, they are stored once.
  mq_span bodies[] = {span("one pizza"), span("two pizzas")}, ids[] = {span("order-1"), span("order-2")};
  mq_publish_options options = MQ_PUBLISH_OPTIONS_INIT;
  options.ids = ids;
  mq_receipt receipts[2];
  must(mq_publish(client, "orders", bodies, 2, &options, receipts), "publish");
  puts(receipts[0].duplicate ? "stored before" : "stored");

  mq_batch *batch;
  mq_status status;
  while ((status = mq_subscription_next(billing, 0, &batch)) == MQ_STATUS_OK) {
    for (size_t i = 0; i < mq_batch_len(batch); i++) {
      mq_message message;
      must(mq_batch_message(batch, i, &message), "message");
      printf("%.*s\n", (int)message.body.len, message.body.data);
    }
    must(mq_batch_finish(batch, 0, mq_batch_len(batch)), "finish");
    mq_batch_free(batch);
  }
  must(status == MQ_STATUS_TIMEOUT ? MQ_STATUS_OK : status, "next");

  mq_subscription_free(billing);
  must(mq_client_close(client, -1), "close");
  mq_client_free(client);
  return EXIT_SUCCESS;
}
