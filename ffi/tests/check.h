// Checks of the test programs: the first that fails ends the program.

#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mq.h"

// Longest wait for what has to come, in milliseconds: valgrind on a busy machine is slow.
#define PATIENCE_MS 60000

#define CHECK(condition) check_((condition) != 0, #condition, __FILE__, __LINE__)
#define OK(call) STATUS(MQ_STATUS_OK, call)
#define STATUS(wanted, call) check_status_((wanted), (call), #call, __FILE__, __LINE__)

static inline void check_(int holds, const char *what, const char *file, int line) {
  if (!holds) {
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    exit(1);
  }
}

static inline void check_status_(mq_status wanted, mq_status got, const char *what, const char *file, int line) {
  if (wanted != got) {
    fprintf(stderr, "%s:%d: %s: %s, not %s: %s\n", file, line, what, mq_status_name(got), mq_status_name(wanted),
            mq_last_error());
    exit(1);
  }
}

static inline mq_span span(const char *text) {
  mq_span made = {text, strlen(text)};
  return made;
}

static inline int is(mq_span got, const char *wanted) {
  return got.len == strlen(wanted) && memcmp(got.data, wanted, got.len) == 0;
}

static inline void publish(mq_client *client, const char *topic, const char *body) {
  mq_span one = span(body);
  OK(mq_publish(client, topic, &one, 1, NULL, NULL));
}

#endif
