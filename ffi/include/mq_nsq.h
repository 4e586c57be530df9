// The surface of libnsq over mq.h, for programs that come from there. https://github.com/libmq/libmq
//
// The names are libnsq's with another spelling; docs/c.md has the list. What libnsq wrote to a socket goes into a
// buffer that the library executes: FIN, REQ and TOUCH answer a message, RDY sets the credit, PUB, DPUB and MPUB
// publish. Connections, heartbeats, lookups and new connections after failures are the library's.
//
// Header only, for C99 and C++. All calls for a reader belong on one thread, that of its event loop. The loop is
// whoever sets `watch`, `kick` and `forget`: mq_nsq_ev.h does for libev.

#ifndef MQ_NSQ_H
#define MQ_NSQ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mq.h"

#ifdef __cplusplus
extern "C" {
#endif

// Output of programs that are compiled with DEBUG, as libnsq's _DEBUG.
#ifdef DEBUG
#define MQ_NSQ_DEBUG(...) fprintf(stdout, __VA_ARGS__)
#else
#define MQ_NSQ_DEBUG(...) \
  do {                    \
  } while (0)
#endif

// Longest URL of a reader's nsqlookupds.
#define MQ_NSQ_URL_BYTES 4096
// Longest delay of a requeue in milliseconds, nsqd's default.
#define MQ_NSQ_REQUEUE_MAX_MS_ 3600000ULL

struct mq_nsq_reader;
struct mq_nsq_conn;

// Settings. Sizes of buffers are libnsq's and have no effect: buffers grow.
struct mq_nsq_cfg {
  // Seconds between questions to nsqlookupds; 0: the library's default.
  double lookupd_interval;
  size_t command_buf_len, command_buf_capacity;
  size_t read_buf_len, read_buf_capacity;
  size_t write_buf_len, write_buf_capacity;
};

// A message. The one who gets it frees it with mq_nsq_message_free.
struct mq_nsq_message {
  int64_t timestamp;
  uint16_t attempts;
  char id[17];
  size_t body_length;
  // Any bytes, and a zero byte behind them.
  char *body;
};

// Commands that are not executed yet.
struct mq_nsq_buffer {
  char *data;
  // Bytes in it.
  size_t offset;
  size_t capacity;
  // Whether there was no memory for a command.
  int is_broken;
};

// Messages that came together, until all of them are answered.
struct mq_nsq_delivery {
  mq_batch *batch;
  size_t len, next, unanswered;
  uint64_t *ids;
  char *is_answered;
  struct mq_nsq_delivery *later;
};

// Messages on their way to the brokers.
struct mq_nsq_sent {
  mq_pending *pending;
  struct mq_nsq_sent *later;
};

// The place of libnsq's socket.
struct mq_nsq_socket {
  struct mq_nsq_conn *conn;
};

// One nsqd, or all that a reader's nsqlookupds name.
struct mq_nsq_conn {
  // Of an nsqd; else NULL and 0.
  char *address;
  int port;
  struct mq_nsq_reader *reader;
  // The reader's.
  void *loop;
  struct mq_nsq_socket *bs;
  struct mq_nsq_buffer *command_buf;
  // The data of the event loop.
  void *watcher;
  struct mq_nsq_conn *next;

  // From here on the library's own.
  mq_client *client;
  mq_subscription *subscription;
  struct mq_nsq_delivery *deliveries;
  struct mq_nsq_sent *sent;
  struct mq_nsq_socket socket;
  // The brokers, and the secret of the last AUTH; NULL without one.
  char *url, *secret;
  long credit, max_in_flight, in_flight;
  int fd, is_announced, is_closed, is_lookup, is_busy, is_reporting, has_new_secret;
};

// A consumer of a channel.
struct mq_nsq_reader {
  char *topic, *channel;
  void *ctx;
  // Most messages without an answer, for each connection. Read when it is made. 1 unless changed.
  int max_in_flight;
  struct mq_nsq_conn *conns;
  void *loop;
  struct mq_nsq_cfg cfg;
  void (*connect_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *);
  void (*close_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *);
  void (*msg_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *, struct mq_nsq_message *, void *ctx);
  // Answers that failed, servers out of reach, publishes that are not stored, commands that are none. May be NULL.
  void (*error_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *, const char *reason);
  // Of the event loop: watches a connection's fd for reading, level-triggered, or ceases to.
  void (*watch)(struct mq_nsq_conn *, int is_on);
  // Of the event loop: has mq_nsq_conn_ready called soon, from the loop.
  void (*kick)(struct mq_nsq_conn *);
  // Of the event loop: drops what it has of a connection, before the fd is closed.
  void (*forget)(struct mq_nsq_conn *);

  char lookup_url[MQ_NSQ_URL_BYTES];
};

static inline void mq_nsq_conn_ready(struct mq_nsq_conn *conn);
static inline void mq_nsq_open_again_(struct mq_nsq_conn *conn);

static inline void mq_nsq_report_(struct mq_nsq_conn *conn, const char *reason) {
  if (conn->reader->error_callback != NULL) {
    int was_reporting = conn->is_reporting;
    conn->is_reporting = 1;
    conn->reader->error_callback(conn->reader, conn, reason);
    conn->is_reporting = was_reporting;
  }
}

// Buffers.

static inline struct mq_nsq_buffer *mq_nsq_buffer_new(size_t length, size_t capacity) {
  (void)length;
  (void)capacity;
  return (struct mq_nsq_buffer *)calloc(1, sizeof(struct mq_nsq_buffer));
}

static inline void mq_nsq_buffer_free(struct mq_nsq_buffer *buf) {
  if (buf != NULL) {
    free(buf->data);
    free(buf);
  }
}

static inline void mq_nsq_buffer_reset(struct mq_nsq_buffer *buf) {
  buf->offset = 0;
  buf->is_broken = 0;
}

// Returns 0 if there is no memory; the buffer is executed by nobody then.
static inline int mq_nsq_buffer_add(struct mq_nsq_buffer *buf, const void *source, size_t length) {
  if (length > buf->capacity - buf->offset) {
    size_t capacity = buf->capacity * 2 > buf->offset + length ? buf->capacity * 2 : buf->offset + length;
    char *data = capacity < length ? NULL : (char *)realloc(buf->data, capacity);
    if (data == NULL) {
      buf->is_broken = 1;
      return 0;
    }
    buf->data = data;
    buf->capacity = capacity;
  }
  if (length > 0) {
    memcpy(buf->data + buf->offset, source, length);
    buf->offset += length;
  }
  return 1;
}

// Commands into a buffer.

static inline void mq_nsq_words_(struct mq_nsq_buffer *buf, const char *verb, const char *first, const char *second) {
  mq_nsq_buffer_add(buf, verb, strlen(verb));
  if (first != NULL) {
    mq_nsq_buffer_add(buf, " ", 1);
    mq_nsq_buffer_add(buf, first, strlen(first));
  }
  if (second != NULL) {
    mq_nsq_buffer_add(buf, " ", 1);
    mq_nsq_buffer_add(buf, second, strlen(second));
  }
  mq_nsq_buffer_add(buf, "\n", 1);
}

static inline void mq_nsq_size_(struct mq_nsq_buffer *buf, size_t size) {
  unsigned char bytes[4] = {(unsigned char)(size >> 24), (unsigned char)(size >> 16), (unsigned char)(size >> 8),
                            (unsigned char)size};
  if (size > UINT32_MAX) {
    buf->is_broken = 1;
  }
  mq_nsq_buffer_add(buf, bytes, sizeof bytes);
}

static inline void mq_nsq_number_(struct mq_nsq_buffer *buf, const char *verb, const char *first, long number) {
  char text[32];
  snprintf(text, sizeof text, "%ld", number);
  mq_nsq_words_(buf, verb, first == NULL ? text : first, first == NULL ? NULL : text);
}

// A reader has subscribed already: does nothing.
static inline void mq_nsq_subscribe(struct mq_nsq_buffer *buf, const char *topic, const char *channel) {
  mq_nsq_words_(buf, "SUB", topic, channel);
}
static inline void mq_nsq_ready(struct mq_nsq_buffer *buf, int count) { mq_nsq_number_(buf, "RDY", NULL, count); }
static inline void mq_nsq_finish(struct mq_nsq_buffer *buf, const char *id) { mq_nsq_words_(buf, "FIN", id, NULL); }
static inline void mq_nsq_requeue(struct mq_nsq_buffer *buf, const char *id, int timeout_ms) {
  mq_nsq_number_(buf, "REQ", id, timeout_ms);
}
static inline void mq_nsq_touch(struct mq_nsq_buffer *buf, const char *id) { mq_nsq_words_(buf, "TOUCH", id, NULL); }
static inline void mq_nsq_nop(struct mq_nsq_buffer *buf) { mq_nsq_words_(buf, "NOP", NULL, NULL); }
static inline void mq_nsq_cleanly_close_connection(struct mq_nsq_buffer *buf) { mq_nsq_words_(buf, "CLS", NULL, NULL); }

// Publishes a text, or any bytes.
static inline void mq_nsq_publish_bytes(struct mq_nsq_buffer *buf, const char *topic, const void *body, size_t len) {
  mq_nsq_words_(buf, "PUB", topic, NULL);
  mq_nsq_size_(buf, len);
  mq_nsq_buffer_add(buf, body, len);
}
static inline void mq_nsq_publish(struct mq_nsq_buffer *buf, const char *topic, const char *body) {
  mq_nsq_publish_bytes(buf, topic, body, strlen(body));
}
static inline void mq_nsq_defer_publish(struct mq_nsq_buffer *buf, const char *topic, const char *body, int defer_ms) {
  mq_nsq_number_(buf, "DPUB", topic, defer_ms);
  mq_nsq_size_(buf, strlen(body));
  mq_nsq_buffer_add(buf, body, strlen(body));
}
// Has the connection made again with a secret that its brokers ask for.
static inline void mq_nsq_auth(struct mq_nsq_buffer *buf, const char *secret) {
  mq_nsq_words_(buf, "AUTH", NULL, NULL);
  mq_nsq_size_(buf, strlen(secret));
  mq_nsq_buffer_add(buf, secret, strlen(secret));
}
// Does nothing when it is executed: the library identifies each connection itself.
static inline void mq_nsq_identify(struct mq_nsq_buffer *buf, const char *json) {
  mq_nsq_words_(buf, "IDENTIFY", NULL, NULL);
  mq_nsq_size_(buf, strlen(json));
  mq_nsq_buffer_add(buf, json, strlen(json));
}
static inline void mq_nsq_multi_publish(struct mq_nsq_buffer *buf, const char *topic, const char **bodies, size_t n) {
  size_t total = 4;
  for (size_t i = 0; i < n; i++) {
    total += 4 + strlen(bodies[i]);
  }
  mq_nsq_words_(buf, "MPUB", topic, NULL);
  mq_nsq_size_(buf, total);
  mq_nsq_size_(buf, n);
  for (size_t i = 0; i < n; i++) {
    mq_nsq_size_(buf, strlen(bodies[i]));
    mq_nsq_buffer_add(buf, bodies[i], strlen(bodies[i]));
  }
}

// Messages.

static inline struct mq_nsq_message *mq_nsq_message_of_(const mq_message *raw) {
  struct mq_nsq_message *msg = (struct mq_nsq_message *)malloc(sizeof(struct mq_nsq_message) + raw->body.len + 1);
  if (msg == NULL) {
    return NULL;
  }
  msg->timestamp = (int64_t)raw->timestamp_ns;
  msg->attempts = raw->attempts;
  snprintf(msg->id, sizeof msg->id, "%016llx", (unsigned long long)raw->id);
  msg->body_length = raw->body.len;
  msg->body = (char *)(msg + 1);
  if (raw->body.len > 0) {
    memcpy(msg->body, raw->body.data, raw->body.len);
  }
  msg->body[raw->body.len] = '\0';
  return msg;
}

static inline void mq_nsq_message_free(struct mq_nsq_message *msg) { free(msg); }

// Connections.

static inline void mq_nsq_delivery_free_(struct mq_nsq_delivery *delivery) {
  mq_batch_free(delivery->batch);
  free(delivery->ids);
  free(delivery->is_answered);
  free(delivery);
}

// Drops what is delivered and answered as a whole.
static inline void mq_nsq_sweep_(struct mq_nsq_conn *conn) {
  struct mq_nsq_delivery **at = &conn->deliveries;
  while (*at != NULL) {
    struct mq_nsq_delivery *delivery = *at;
    if (delivery->unanswered == 0) {
      *at = delivery->later;
      mq_nsq_delivery_free_(delivery);
    } else {
      at = &delivery->later;
    }
  }
}

// Marks a message in flight as answered. Returns its batch and place, or NULL.
static inline mq_batch *mq_nsq_answer_(struct mq_nsq_conn *conn, uint64_t id, int is_last, size_t *place) {
  for (struct mq_nsq_delivery *delivery = conn->deliveries; delivery != NULL; delivery = delivery->later) {
    for (size_t i = 0; i < delivery->next; i++) {
      if (delivery->ids[i] == id && !delivery->is_answered[i]) {
        if (is_last) {
          delivery->is_answered[i] = 1;
          delivery->unanswered--;
          conn->in_flight--;
        }
        *place = i;
        return delivery->batch;
      }
    }
  }
  return NULL;
}

// Takes a batch from the library; 0 if there is none.
static inline int mq_nsq_take_(struct mq_nsq_conn *conn) {
  mq_batch *batch;
  mq_status status = mq_subscription_poll(conn->subscription, &batch);
  if (status != MQ_STATUS_OK) {
    if (status != MQ_STATUS_EMPTY) {
      mq_nsq_report_(conn, mq_last_error());
      conn->is_closed = 1;
    }
    return 0;
  }
  size_t len = mq_batch_len(batch);
  struct mq_nsq_delivery *delivery = (struct mq_nsq_delivery *)calloc(1, sizeof(struct mq_nsq_delivery));
  uint64_t *ids = (uint64_t *)calloc(len, sizeof(uint64_t));
  char *is_answered = (char *)calloc(len, 1);
  if (delivery == NULL || ids == NULL || is_answered == NULL) {
    // The messages go back to their channel.
    mq_batch_free(batch);
    free(delivery);
    free(ids);
    free(is_answered);
    mq_nsq_report_(conn, "there is no memory for messages");
    return 0;
  }
  for (size_t i = 0; i < len; i++) {
    mq_message raw;
    mq_batch_message(batch, i, &raw);
    ids[i] = raw.id;
    // A message that comes again has timed out: its first delivery is in flight no more.
    size_t place;
    mq_nsq_answer_(conn, raw.id, 1, &place);
  }
  delivery->batch = batch;
  delivery->len = delivery->unanswered = len;
  delivery->ids = ids;
  delivery->is_answered = is_answered;
  struct mq_nsq_delivery **at = &conn->deliveries;
  while (*at != NULL) {
    at = &(*at)->later;
  }
  *at = delivery;
  return 1;
}

// With the credit that the library was given, it counts messages in flight itself, and those that time out.
static inline int mq_nsq_has_credit_(const struct mq_nsq_conn *conn) {
  return !conn->is_closed && (conn->credit >= conn->max_in_flight || conn->in_flight < conn->credit);
}

static inline struct mq_nsq_delivery *mq_nsq_undelivered_(struct mq_nsq_conn *conn) {
  struct mq_nsq_delivery *delivery = conn->deliveries;
  while (delivery != NULL && delivery->next == delivery->len) {
    delivery = delivery->later;
  }
  return delivery;
}

static inline void mq_nsq_deliver_(struct mq_nsq_conn *conn) {
  struct mq_nsq_delivery *delivery;
  while (mq_nsq_has_credit_(conn) && (delivery = mq_nsq_undelivered_(conn)) != NULL) {
    mq_message raw;
    mq_batch_message(delivery->batch, delivery->next, &raw);
    struct mq_nsq_message *msg = mq_nsq_message_of_(&raw);
    if (msg == NULL) {
      mq_nsq_report_(conn, "there is no memory for a message");
      return;
    }
    delivery->next++;
    conn->in_flight++;
    conn->reader->msg_callback(conn->reader, conn, msg, conn->reader->ctx);
    mq_nsq_sweep_(conn);
  }
}

// Reports answers that failed, and publishes that are not stored.
static inline void mq_nsq_look_for_failures_(struct mq_nsq_conn *conn) {
  mq_failures *failures;
  if (mq_subscription_failures(conn->subscription, &failures) == MQ_STATUS_OK) {
    for (size_t i = 0; i < mq_failures_len(failures); i++) {
      mq_failure failure;
      char reason[512];
      if (mq_failures_get(failures, i, &failure) == MQ_STATUS_OK) {
        int len = failure.reason.len < sizeof reason ? (int)failure.reason.len : (int)sizeof reason - 1;
        snprintf(reason, sizeof reason, "%.*s", len, failure.reason.data);
        mq_nsq_report_(conn, reason);
      }
    }
    mq_failures_free(failures);
  }
  struct mq_nsq_sent **at = &conn->sent;
  while (*at != NULL) {
    struct mq_nsq_sent *sent = *at;
    if (mq_pending_state(sent->pending) < MQ_PUBLISH_STATE_STORED) {
      at = &sent->later;
      continue;
    }
    *at = sent->later;
    if (mq_pending_wait(sent->pending, 0, NULL) != MQ_STATUS_OK) {
      mq_nsq_report_(conn, mq_last_error());
    }
    mq_pending_free(sent->pending);
    free(sent);
  }
}

// What the event loop calls when a connection's fd is readable, or after a kick.
static inline void mq_nsq_conn_ready(struct mq_nsq_conn *conn) {
  struct mq_nsq_reader *reader = conn->reader;
  if (conn->is_busy) {
    return;
  }
  conn->is_busy = 1;
  if (!conn->is_announced) {
    conn->is_announced = 1;
    if (reader->connect_callback != NULL) {
      reader->connect_callback(reader, conn);
    }
  }
  if (conn->has_new_secret && !conn->is_closed) {
    mq_nsq_open_again_(conn);
  }
  mq_nsq_deliver_(conn);
  // One batch a turn: others of the loop get theirs.
  if (mq_nsq_has_credit_(conn) && mq_nsq_take_(conn)) {
    mq_nsq_deliver_(conn);
  }
  mq_nsq_look_for_failures_(conn);
  conn->is_busy = 0;
  reader->watch(conn, mq_nsq_has_credit_(conn));
  if (conn->is_closed && conn->fd >= 0) {
    conn->fd = -1;
    if (reader->close_callback != NULL) {
      reader->close_callback(reader, conn);
    }
  } else if (conn->has_new_secret) {
    reader->kick(conn);
  }
}

// Commands out of a buffer.

static inline size_t mq_nsq_size_at_(const char *data) {
  const unsigned char *bytes = (const unsigned char *)data;
  return (size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | (size_t)bytes[3];
}

static inline void mq_nsq_send_(struct mq_nsq_conn *conn, const char *topic, const mq_span *bodies, size_t n,
                                uint64_t delay_ms) {
  struct mq_nsq_sent *sent = (struct mq_nsq_sent *)calloc(1, sizeof(struct mq_nsq_sent));
  mq_publish_options options = MQ_PUBLISH_OPTIONS_INIT;
  options.delay_ms = delay_ms;
  if (sent == NULL) {
    mq_nsq_report_(conn, "there is no memory for a publish");
  } else if (mq_publish_async(conn->client, topic, bodies, n, &options, NULL, NULL, &sent->pending) != MQ_STATUS_OK) {
    mq_nsq_report_(conn, mq_last_error());
    free(sent);
  } else {
    sent->later = conn->sent;
    conn->sent = sent;
  }
}

// Publishes the messages of an MPUB's body; 0 if it is none.
static inline int mq_nsq_send_many_(struct mq_nsq_conn *conn, const char *topic, const char *body, size_t size) {
  size_t n = size < 4 ? 0 : mq_nsq_size_at_(body), at = 4;
  mq_span *bodies = n == 0 || n > size / 4 ? NULL : (mq_span *)calloc(n, sizeof(mq_span));
  if (bodies == NULL) {
    return 0;
  }
  for (size_t i = 0; i < n; i++) {
    size_t len = size - at < 4 ? SIZE_MAX : mq_nsq_size_at_(body + at);
    if (size - at < 4 || len > size - at - 4) {
      free(bodies);
      return 0;
    }
    bodies[i].data = body + at + 4;
    bodies[i].len = len;
    at += 4 + len;
  }
  mq_nsq_send_(conn, topic, bodies, n, 0);
  free(bodies);
  return 1;
}

// Executes a command that answers a message; 0 if its message is not in flight.
static inline int mq_nsq_answer_command_(struct mq_nsq_conn *conn, const char *verb, const char *id, const char *delay) {
  int is_last = strcmp(verb, "TOUCH") != 0;
  size_t place = 0;
  mq_batch *batch = mq_nsq_answer_(conn, strtoull(id, NULL, 16), is_last, &place);
  if (batch == NULL) {
    return 0;
  }
  if (strcmp(verb, "FIN") == 0) {
    mq_batch_finish(batch, place, place + 1);
  } else if (is_last) {
    // nsqd cuts it to an hour, where `mq` refuses.
    unsigned long long delay_ms = strtoull(delay, NULL, 10);
    mq_batch_requeue(batch, place, place + 1, delay_ms < MQ_NSQ_REQUEUE_MAX_MS_ ? delay_ms : MQ_NSQ_REQUEUE_MAX_MS_);
  } else {
    mq_batch_touch(batch, place, place + 1);
  }
  return 1;
}

// Makes the connection again with a secret, after a report if one is made; 0 if it is none. One that it has already
// changes nothing.
static inline int mq_nsq_authorize_(struct mq_nsq_conn *conn, const char *secret, size_t size) {
  if (size == 0 || memchr(secret, '\0', size) != NULL) {
    return 0;
  }
  if (conn->secret != NULL && strlen(conn->secret) == size && memcmp(conn->secret, secret, size) == 0) {
    return 1;
  }
  char *copied = (char *)malloc(size + 1);
  if (copied == NULL) {
    mq_nsq_report_(conn, "there is no memory for a secret");
    return 1;
  }
  memcpy(copied, secret, size);
  copied[size] = '\0';
  free(conn->secret);
  conn->secret = copied;
  if (conn->is_reporting) {
    conn->has_new_secret = 1;
  } else if (!conn->is_closed) {
    mq_nsq_open_again_(conn);
  }
  return 1;
}

// Executes one command whose line is split into words; body is what follows the line. 0 if it is none.
static inline int mq_nsq_execute_(struct mq_nsq_conn *conn, const char *verb, const char *first, const char *second,
                                  const char *body, size_t size) {
  if (strcmp(verb, "FIN") == 0 || strcmp(verb, "REQ") == 0 || strcmp(verb, "TOUCH") == 0) {
    return mq_nsq_answer_command_(conn, verb, first, second);
  }
  if (strcmp(verb, "RDY") == 0) {
    conn->credit = strtol(first, NULL, 10);
  } else if (strcmp(verb, "CLS") == 0) {
    conn->credit = 0;
  } else if (strcmp(verb, "PUB") == 0 || strcmp(verb, "DPUB") == 0) {
    mq_span one = {body, size};
    mq_nsq_send_(conn, first, &one, 1, strcmp(verb, "DPUB") == 0 ? strtoull(second, NULL, 10) : 0);
  } else if (strcmp(verb, "MPUB") == 0) {
    return mq_nsq_send_many_(conn, first, body, size);
  } else if (strcmp(verb, "AUTH") == 0) {
    return mq_nsq_authorize_(conn, body, size);
  } else {
    return strcmp(verb, "NOP") == 0 || strcmp(verb, "SUB") == 0 || strcmp(verb, "IDENTIFY") == 0;
  }
  return 1;
}

// Executes the commands in a buffer and empties it. Returns how many bytes they were.
static inline size_t mq_nsq_socket_write_buffer(struct mq_nsq_socket *socket, struct mq_nsq_buffer *buf) {
  struct mq_nsq_conn *conn = socket->conn;
  size_t at = 0, total = buf->offset;
  if (buf->is_broken) {
    mq_nsq_report_(conn, "there was no memory for a command: none of the buffer's is executed");
    at = total;
  }
  while (at < total) {
    char line[256], verb[16] = "", first[128] = "", second[64] = "";
    const char *end = (const char *)memchr(buf->data + at, '\n', total - at);
    size_t len = end == NULL ? sizeof line : (size_t)(end - (buf->data + at));
    if (len >= sizeof line) {
      mq_nsq_report_(conn, "what was written is no command");
      break;
    }
    memcpy(line, buf->data + at, len);
    line[len] = '\0';
    at += len + 1;
    sscanf(line, "%15s %127s %63s", verb, first, second);
    int has_body = strcmp(verb, "PUB") == 0 || strcmp(verb, "DPUB") == 0 || strcmp(verb, "MPUB") == 0 ||
                   strcmp(verb, "AUTH") == 0 || strcmp(verb, "IDENTIFY") == 0;
    size_t size = 0;
    const char *body = buf->data + at;
    if (has_body) {
      size = total - at < 4 ? SIZE_MAX : mq_nsq_size_at_(body);
      if (total - at < 4 || size > total - at - 4) {
        mq_nsq_report_(conn, "a command's body is shorter than its size says");
        break;
      }
      body += 4;
      at += 4 + size;
    }
    if (!mq_nsq_execute_(conn, verb, first, second, body, size)) {
      char reason[320];
      snprintf(reason, sizeof reason, "no such command, or its message is not in flight: %s", line);
      mq_nsq_report_(conn, reason);
    }
  }
  mq_nsq_buffer_reset(buf);
  // Answers and credit may let more come. A callback's come when it returns.
  if (!conn->is_busy && conn->fd >= 0) {
    mq_nsq_sweep_(conn);
    conn->reader->kick(conn);
  }
  return total;
}

// Readers.

// Ends what a connection has of the library; the library goes on with what is on its way. Messages without an answer go back to the channel.
static inline void mq_nsq_end_(struct mq_nsq_conn *conn) {
  if (conn->watcher != NULL) {
    conn->reader->forget(conn);
  }
  while (conn->deliveries != NULL) {
    struct mq_nsq_delivery *delivery = conn->deliveries;
    conn->deliveries = delivery->later;
    mq_nsq_delivery_free_(delivery);
  }
  mq_subscription_free(conn->subscription);
  while (conn->sent != NULL) {
    struct mq_nsq_sent *sent = conn->sent;
    conn->sent = sent->later;
    mq_pending_free(sent->pending);
    free(sent);
  }
  mq_client_free(conn->client);
  conn->subscription = NULL;
  conn->client = NULL;
  conn->in_flight = 0;
  conn->fd = -1;
}

// Connects and subscribes; 0 if it failed, which is reported.
static inline int mq_nsq_open_(struct mq_nsq_conn *conn) {
  struct mq_nsq_reader *reader = conn->reader;
  mq_config config = MQ_CONFIG_INIT;
  config.lookup_poll_interval_ms = (uint64_t)(reader->cfg.lookupd_interval * 1000);
  config.auth_secret = conn->secret;
  mq_subscribe_options options = MQ_SUBSCRIBE_OPTIONS_INIT;
  options.max_in_flight = (uint32_t)conn->max_in_flight;
  conn->has_new_secret = 0;
  if (mq_connect(conn->url, &config, &conn->client) != MQ_STATUS_OK ||
      mq_subscribe(conn->client, reader->topic, reader->channel, &options, &conn->subscription) != MQ_STATUS_OK ||
      (conn->fd = mq_subscription_fd(conn->subscription)) < 0) {
    mq_nsq_report_(conn, mq_last_error());
    return 0;
  }
  reader->watch(conn, 1);
  reader->kick(conn);
  return 1;
}

// Makes a connection again.
static inline void mq_nsq_open_again_(struct mq_nsq_conn *conn) {
  mq_nsq_end_(conn);
  if (!mq_nsq_open_(conn)) {
    conn->is_closed = 1;
    if (conn->reader->close_callback != NULL) {
      conn->reader->close_callback(conn->reader, conn);
    }
  }
}

static inline void mq_nsq_conn_free(struct mq_nsq_conn *conn) {
  if (conn == NULL) {
    return;
  }
  mq_nsq_end_(conn);
  mq_nsq_buffer_free(conn->command_buf);
  free(conn->address);
  free(conn->url);
  free(conn->secret);
  free(conn);
}

static inline struct mq_nsq_conn *mq_nsq_conn_new_(struct mq_nsq_reader *reader, const char *url) {
  struct mq_nsq_conn *conn = (struct mq_nsq_conn *)calloc(1, sizeof(struct mq_nsq_conn));
  if (conn == NULL) {
    return NULL;
  }
  conn->reader = reader;
  conn->loop = reader->loop;
  conn->socket.conn = conn;
  conn->bs = &conn->socket;
  conn->fd = -1;
  conn->credit = conn->max_in_flight = reader->max_in_flight < 1 ? 1 : reader->max_in_flight;
  conn->command_buf = mq_nsq_buffer_new(0, 0);
  conn->url = (char *)malloc(strlen(url) + 1);
  if (conn->command_buf == NULL || conn->url == NULL) {
    mq_nsq_report_(conn, "there is no memory for a connection");
    mq_nsq_conn_free(conn);
    return NULL;
  }
  memcpy(conn->url, url, strlen(url) + 1);
  if (!mq_nsq_open_(conn)) {
    mq_nsq_conn_free(conn);
    return NULL;
  }
  conn->next = reader->conns;
  reader->conns = conn;
  return conn;
}

// A reader for an event loop, which sets its functions before anything is connected.
static inline struct mq_nsq_reader *mq_nsq_reader_new_(
    void *loop, const char *topic, const char *channel, void *ctx, const struct mq_nsq_cfg *cfg,
    void (*connect_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *),
    void (*close_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *),
    void (*msg_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *, struct mq_nsq_message *, void *)) {
  struct mq_nsq_reader *reader = (struct mq_nsq_reader *)calloc(1, sizeof(struct mq_nsq_reader));
  char *names = (char *)malloc(strlen(topic) + strlen(channel) + 2);
  if (reader == NULL || names == NULL) {
    free(reader);
    free(names);
    return NULL;
  }
  reader->topic = names;
  reader->channel = names + strlen(topic) + 1;
  memcpy(reader->topic, topic, strlen(topic) + 1);
  memcpy(reader->channel, channel, strlen(channel) + 1);
  reader->loop = loop;
  reader->ctx = ctx;
  reader->max_in_flight = 1;
  if (cfg != NULL) {
    reader->cfg = *cfg;
  }
  reader->connect_callback = connect_callback;
  reader->close_callback = close_callback;
  reader->msg_callback = msg_callback;
  return reader;
}

// Frees a reader and its connections. Messages without an answer go back to the channel.
static inline void mq_nsq_reader_free(struct mq_nsq_reader *reader) {
  while (reader != NULL && reader->conns != NULL) {
    struct mq_nsq_conn *conn = reader->conns;
    reader->conns = conn->next;
    mq_nsq_conn_free(conn);
  }
  if (reader != NULL) {
    free(reader->topic);
    free(reader);
  }
}

static inline int mq_nsq_address_(char *out, size_t bytes, const char *scheme, const char *address, int port) {
  int is_ip6 = strchr(address, ':') != NULL;
  int len = snprintf(out, bytes, is_ip6 ? "%s[%s]:%d" : "%s%s:%d", scheme, address, port);
  return len > 0 && (size_t)len < bytes;
}

// Connects to an nsqd, now or as soon as it is reachable. Returns a descriptor, or 0 on failure.
static inline int mq_nsq_reader_connect_to_nsqd(struct mq_nsq_reader *reader, const char *address, int port) {
  char url[512];
  struct mq_nsq_conn *conn =
      mq_nsq_address_(url, sizeof url, "mq://", address, port) ? mq_nsq_conn_new_(reader, url) : NULL;
  if (conn == NULL) {
    return 0;
  }
  conn->port = port;
  conn->address = (char *)malloc(strlen(address) + 1);
  if (conn->address != NULL) {
    memcpy(conn->address, address, strlen(address) + 1);
  }
  return conn->fd;
}

// Consumes from all that this nsqlookupd, and those added before, name. Returns 1, or 0 on failure.
static inline int mq_nsq_reader_add_nsqlookupd_endpoint(struct mq_nsq_reader *reader, const char *address, int port) {
  size_t used = strlen(reader->lookup_url);
  const char *scheme = used == 0 ? "mq+lookup://" : ",";
  if (!mq_nsq_address_(reader->lookup_url + used, sizeof reader->lookup_url - used, scheme, address, port)) {
    reader->lookup_url[used] = '\0';
    return 0;
  }
  // One connection asks all of them: an nsqd that two name is consumed from once.
  for (struct mq_nsq_conn **at = &reader->conns; *at != NULL; at = &(*at)->next) {
    if ((*at)->is_lookup) {
      struct mq_nsq_conn *before = *at;
      *at = before->next;
      mq_nsq_conn_free(before);
      break;
    }
  }
  struct mq_nsq_conn *conn = mq_nsq_conn_new_(reader, reader->lookup_url);
  if (conn != NULL) {
    conn->is_lookup = 1;
  }
  return conn != NULL;
}

#ifdef __cplusplus
}
#endif

#endif  // MQ_NSQ_H
