// A worker that halves numbers. What is no number can't be done however often it is tried: after three attempts it is a
// dead letter, in a topic of its own.
//
//   ./dead_letters FOLDER 10 twenty 30

#include <mq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTEMPTS = 3, TURN_MS = 100 };

static void must(mq_status status, const char *what) {
  if (status != MQ_STATUS_OK) {
    fprintf(stderr, "%s: %s\n", what, mq_last_error());
    exit(EXIT_FAILURE);
  }
}

// Waits for messages; NULL if none came in time.
static mq_batch *next(mq_subscription *subscription, int timeout_ms) {
  mq_batch *batch;
  mq_status status = mq_subscription_next(subscription, timeout_ms, &batch);
  if (status == MQ_STATUS_TIMEOUT) {
    return NULL;
  }
  must(status, "next");
  return batch;
}

// Does jobs, and returns how many are done.
static int work(mq_batch *jobs) {
  int done = 0;
  for (size_t i = 0; i < mq_batch_len(jobs); i++) {
    mq_message job;
    char text[32], *end;
    must(mq_batch_message(jobs, i, &job), "message");
    snprintf(text, sizeof text, "%.*s", (int)job.body.len, job.body.data);
    double number = strtod(text, &end);
    if (*end == '\0') {
      printf("half of %g is %g\n", number, number / 2);
      must(mq_batch_finish(jobs, i, i + 1), "finish");
      done++;
    } else {
      // Returned, it comes again, but for the last attempt.
      must(mq_batch_requeue(jobs, i, i + 1, 0), "requeue");
    }
  }
  return done;
}

// Prints dead letters, and returns how many they are.
static int print(mq_batch *letters) {
  for (size_t i = 0; i < mq_batch_len(letters); i++) {
    mq_message letter;
    must(mq_batch_message(letters, i, &letter), "message");
    printf("dead letter: %.*s\n", (int)letter.body.len, letter.body.data);
  }
  must(mq_batch_finish(letters, 0, mq_batch_len(letters)), "finish");
  return (int)mq_batch_len(letters);
}

int main(int argc, char **argv) {
  char url[4096];
  if (argc < 3 || snprintf(url, sizeof url, "mq:%s", argv[1]) >= (int)sizeof url) {
    fprintf(stderr, "usage: %s FOLDER NUMBER...\n", argv[0]);
    return EXIT_FAILURE;
  }
  mq_client *client;
  must(mq_connect(url, NULL, &client), url);
  must(mq_channel_create(client, "numbers", "halver"), "create");
  mq_channel_settings settings = MQ_CHANNEL_SETTINGS_INIT;
  must(mq_channel_get_settings(client, "numbers", "halver", &settings), "settings");
  settings.max_attempts = ATTEMPTS;
  strcpy(settings.dead_letter_topic, "numbers.dead");
  must(mq_channel_set_settings(client, "numbers", "halver", &settings), "settings");

  for (int i = 2; i < argc; i++) {
    mq_span body = {argv[i], strlen(argv[i])};
    must(mq_publish(client, "numbers", &body, 1, NULL, NULL), "publish");
  }
  mq_subscription *numbers, *dead;
  must(mq_subscribe(client, "numbers", "halver", NULL, &numbers), "subscribe");
  must(mq_subscribe(client, "numbers.dead", "printer", NULL, &dead), "subscribe");
  for (int left = argc - 2; left > 0;) {
    mq_batch *jobs = next(numbers, TURN_MS), *letters = next(dead, 0);
    left -= jobs == NULL ? 0 : work(jobs);
    left -= letters == NULL ? 0 : print(letters);
    mq_batch_free(jobs);
    mq_batch_free(letters);
  }
  mq_subscription_free(numbers);
  mq_subscription_free(dead);
  must(mq_client_close(client, -1), "close");
  mq_client_free(client);
  return EXIT_SUCCESS;
}
