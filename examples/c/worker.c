// A worker on an epoll loop of its own: prints each message and finishes it, until SIGINT, SIGTERM, or COUNT
// messages.
//
//   ./worker mq://127.0.0.1:4150 TOPIC CHANNEL [COUNT]

#define _GNU_SOURCE
#include <mq.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { CLOSE_MS = 5000 };

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, mq_last_error());
  return EXIT_FAILURE;
}

static void watch(int loop, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
  if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) {
    perror("epoll_ctl");
    exit(EXIT_FAILURE);
  }
}

// Prints what is there, at most `left` messages, and returns how many.
static size_t handle(mq_batch *batch, size_t left) {
  size_t n = mq_batch_len(batch);
  if (n > left) {
    n = left;
  }
  for (size_t i = 0; i < n; i++) {
    mq_message message;
    if (mq_batch_message(batch, i, &message) == MQ_STATUS_OK) {
      printf("%.*s\n", (int)message.body.len, message.body.data);
    }
  }
  fflush(stdout);
  // One call for all. Messages without an answer go back when the batch is freed.
  mq_batch_finish(batch, 0, n);
  mq_batch_free(batch);
  return n;
}

static void print_failures(mq_subscription *subscription) {
  mq_failures *failures;
  if (mq_subscription_failures(subscription, &failures) != MQ_STATUS_OK) {
    return;
  }
  for (size_t i = 0; i < mq_failures_len(failures); i++) {
    mq_failure failure;
    if (mq_failures_get(failures, i, &failure) == MQ_STATUS_OK) {
      fprintf(stderr, "%.*s\n", (int)failure.reason.len, failure.reason.data);
    }
  }
  mq_failures_free(failures);
}

int main(int argc, char **argv) {
  if (argc != 4 && argc != 5) {
    fprintf(stderr, "usage: %s URL TOPIC CHANNEL [COUNT]\n", argv[0]);
    return EXIT_FAILURE;
  }
  size_t left = argc == 5 ? strtoul(argv[4], NULL, 10) : SIZE_MAX;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  // Before the library's threads begin: they take the mask over.
  sigprocmask(SIG_BLOCK, &signals, NULL);
  int interrupted = signalfd(-1, &signals, SFD_CLOEXEC), loop = epoll_create1(EPOLL_CLOEXEC);
  if (interrupted < 0 || loop < 0) {
    perror("worker");
    return EXIT_FAILURE;
  }

  mq_client *client;
  mq_subscription *subscription;
  if (mq_connect(argv[1], NULL, &client) != MQ_STATUS_OK) {
    return failed(argv[1]);
  }
  if (mq_subscribe(client, argv[2], argv[3], NULL, &subscription) != MQ_STATUS_OK) {
    return failed(argv[2]);
  }
  int messages = mq_subscription_fd(subscription);
  if (messages < 0) {
    return failed("descriptor");
  }
  watch(loop, messages);
  watch(loop, interrupted);

  int result = EXIT_SUCCESS, is_running = 1;
  while (is_running && left > 0) {
    struct epoll_event event;
    if (epoll_wait(loop, &event, 1, -1) < 1) {
      continue;
    }
    if (event.data.fd == interrupted) {
      is_running = 0;
      continue;
    }
    // One batch a turn, so that other descriptors get theirs; level-triggered epoll comes back for the rest.
    mq_batch *batch;
    mq_status status = mq_subscription_poll(subscription, &batch);
    if (status == MQ_STATUS_OK) {
      left -= handle(batch, left);
      print_failures(subscription);
    } else if (status != MQ_STATUS_EMPTY) {
      result = failed("subscription");
      is_running = status != MQ_STATUS_CLOSED && mq_last_error_retry();
    }
  }
  // The last answers go out before the program ends.
  mq_subscription_close(subscription, CLOSE_MS);
  mq_subscription_free(subscription);
  mq_client_close(client, CLOSE_MS);
  mq_client_free(client);
  close(loop);
  close(interrupted);
  return result;
}
