// libnsq's surface on a small loop of our own: commands are executed, credit is kept, failures are reported.

#define _DEFAULT_SOURCE
#include "mq_nsq.h"

#include <poll.h>

#include "check.h"

static int is_watched, is_kicked, connects, closes, errors, messages, requeues, delayed;
static char last_error[512];
static size_t largest;
static char held[17];
// What the next report is answered by.
static const char *secret_in_report;

static void watch(struct mq_nsq_conn *conn, int is_on) {
  conn->watcher = conn;
  is_watched = is_on;
}
static void kick(struct mq_nsq_conn *conn) {
  (void)conn;
  is_kicked = 1;
}
static void forget(struct mq_nsq_conn *conn) {
  conn->watcher = NULL;
  is_watched = is_kicked = 0;
}

// One turn of the loop; 0 if nothing came in time.
static int turn(struct mq_nsq_conn *conn, int timeout_ms) {
  struct pollfd wanted = {conn->fd, POLLIN, 0};
  if (!is_kicked && (!is_watched || poll(&wanted, 1, timeout_ms) == 0)) {
    return 0;
  }
  is_kicked = 0;
  mq_nsq_conn_ready(conn);
  return 1;
}

static void run_until(struct mq_nsq_conn *conn, int *count, int wanted) {
  while (*count < wanted) {
    CHECK(turn(conn, PATIENCE_MS));
  }
}

static void on_connect(struct mq_nsq_reader *rdr, struct mq_nsq_conn *conn) {
  CHECK(rdr->conns == conn);
  connects++;
}
static void on_close(struct mq_nsq_reader *rdr, struct mq_nsq_conn *conn) {
  (void)rdr;
  (void)conn;
  closes++;
}
static void on_error(struct mq_nsq_reader *rdr, struct mq_nsq_conn *conn, const char *reason) {
  (void)rdr;
  snprintf(last_error, sizeof last_error, "%s", reason);
  errors++;
  if (secret_in_report != NULL) {
    struct mq_nsq_buffer *buf = mq_nsq_buffer_new(0, 0);
    mq_nsq_auth(buf, secret_in_report);
    secret_in_report = NULL;
    mq_nsq_socket_write_buffer(conn->bs, buf);
    mq_nsq_buffer_free(buf);
  }
}

// Finishes each message the second time, after a requeue; holds those that say so.
static void on_message(struct mq_nsq_reader *rdr, struct mq_nsq_conn *conn, struct mq_nsq_message *msg, void *ctx) {
  CHECK(ctx == &messages && rdr->ctx == ctx && msg->body[msg->body_length] == '\0' && strlen(msg->id) == 16);
  largest = msg->body_length > largest ? msg->body_length : largest;
  mq_nsq_buffer_reset(conn->command_buf);
  if (strcmp(msg->body, "hold") == 0) {
    memcpy(held, msg->id, sizeof held);
    mq_nsq_touch(conn->command_buf, msg->id);
  } else if (msg->attempts == 1) {
    mq_nsq_requeue(conn->command_buf, msg->id, 0);
    requeues++;
  } else {
    mq_nsq_finish(conn->command_buf, msg->id);
    messages++;
    delayed += strcmp(msg->body, "delayed") == 0;
  }
  mq_nsq_socket_write_buffer(conn->bs, conn->command_buf);
  mq_nsq_buffer_reset(conn->command_buf);
  mq_nsq_ready(conn->command_buf, rdr->max_in_flight);
  mq_nsq_socket_write_buffer(conn->bs, conn->command_buf);
  mq_nsq_message_free(msg);
}

static void execute(struct mq_nsq_conn *conn) { mq_nsq_socket_write_buffer(conn->bs, conn->command_buf); }

static void publish_all_ways(struct mq_nsq_conn *conn) {
  struct mq_nsq_buffer *buf = conn->command_buf;
  static char large[100000];
  const char *many[3] = {"one", "two", "three"};
  memset(large, 'x', sizeof large);
  mq_nsq_buffer_reset(buf);
  mq_nsq_subscribe(buf, "t", "c");
  mq_nsq_nop(buf);
  mq_nsq_publish(buf, "t", "single");
  mq_nsq_multi_publish(buf, "t", many, 3);
  mq_nsq_publish_bytes(buf, "t", large, sizeof large);
  mq_nsq_publish_bytes(buf, "t", "a\nFIN b\n", 8);
  mq_nsq_defer_publish(buf, "t", "delayed", 1);
  execute(conn);
  run_until(conn, &messages, 6);
  CHECK(largest == sizeof large);
  // It comes due by the broker's clock, and is delivered twice, as the others.
  CHECK(mq_client_flush(conn->client, PATIENCE_MS, NULL) == MQ_STATUS_OK);
  CHECK(mq_client_advance(conn->client, 10) == MQ_STATUS_OK);
  run_until(conn, &delayed, 1);
  CHECK(messages == 7 && requeues == 7 && errors == 0 && connects == 1 && closes == 0);
  CHECK(conn->deliveries == NULL && conn->in_flight == 0);
}

static void credit_is_kept(struct mq_nsq_conn *conn) {
  int before = messages + requeues;
  mq_nsq_buffer_reset(conn->command_buf);
  mq_nsq_ready(conn->command_buf, 0);
  mq_nsq_publish(conn->command_buf, "t", "paused");
  execute(conn);
  while (turn(conn, 0)) {
  }
  CHECK(mq_client_flush(conn->client, PATIENCE_MS, NULL) == MQ_STATUS_OK);
  CHECK(!turn(conn, 0) && messages + requeues == before);
  mq_nsq_ready(conn->command_buf, 1);
  execute(conn);
  run_until(conn, &messages, 8);
}

static void failures_are_reported(struct mq_nsq_conn *conn) {
  struct mq_nsq_buffer *buf = conn->command_buf;
  mq_nsq_buffer_reset(buf);
  mq_nsq_finish(buf, "0123456789abcdef");
  execute(conn);
  CHECK(errors == 1 && strstr(last_error, "FIN 0123456789abcdef") != NULL);
  mq_nsq_buffer_add(buf, "HELLO\n", 6);
  mq_nsq_buffer_add(buf, "PUB t\n\0\0\0\x09short", 15);
  execute(conn);
  CHECK(errors == 3);
  mq_nsq_publish(buf, "no/topic", "x");
  execute(conn);
  CHECK(errors == 4 && strstr(last_error, "no/topic") != NULL);

  // Finished too late: the broker's answer is reported, and the message comes again.
  mq_nsq_publish(buf, "t", "hold");
  execute(conn);
  while (held[0] == '\0') {
    CHECK(turn(conn, PATIENCE_MS));
  }
  char late[17];
  memcpy(late, held, sizeof late);
  CHECK(mq_client_advance(conn->client, 61000) == MQ_STATUS_OK);
  mq_nsq_finish(buf, late);
  execute(conn);
  held[0] = '\0';
  run_until(conn, &errors, 5);
  while (held[0] == '\0') {
    CHECK(turn(conn, PATIENCE_MS));
  }
  CHECK(strcmp(held, late) == 0);
  // Its answer is taken once.
  mq_nsq_finish(buf, late);
  mq_nsq_finish(buf, late);
  execute(conn);
  CHECK(errors == 6 && conn->in_flight == 0);
}

static void a_secret_makes_the_connection_again_once(struct mq_nsq_conn *conn) {
  struct mq_nsq_buffer *buf = conn->command_buf;
  const int announced = connects, reported = errors;
  int wanted = messages + 1;
  mq_nsq_buffer_reset(buf);
  // It goes to the memory of another broker.
  mq_nsq_publish(buf, "t", "hold");
  mq_nsq_identify(buf, "{\"client_id\":\"c\"}");
  mq_nsq_auth(buf, "open sesame");
  mq_nsq_publish(buf, "t", "after");
  execute(conn);
  CHECK(strcmp(conn->secret, "open sesame") == 0 && !conn->has_new_secret);
  held[0] = '\0';
  run_until(conn, &messages, wanted);
  CHECK(held[0] == '\0' && connects == announced && errors == reported);
  mq_client *same = conn->client;
  mq_nsq_auth(buf, "open sesame");
  execute(conn);
  CHECK(conn->client == same && errors == reported);
  mq_nsq_auth(buf, "");
  mq_nsq_buffer_add(buf, "AUTH\n\0\0\0\x09short", 14);
  execute(conn);
  CHECK(errors == reported + 2 && conn->client == same);
  // In a report it waits until the report is over.
  secret_in_report = "another";
  mq_nsq_finish(buf, "0123456789abcdef");
  execute(conn);
  CHECK(conn->has_new_secret && conn->client == same);
  while (conn->has_new_secret) {
    CHECK(turn(conn, PATIENCE_MS));
  }
  CHECK(strcmp(conn->secret, "another") == 0);
  wanted = messages + 1;
  mq_nsq_publish(buf, "t", "again");
  execute(conn);
  run_until(conn, &messages, wanted);
}

static void the_end_is_reported(struct mq_nsq_conn *conn) {
  mq_nsq_cleanly_close_connection(conn->command_buf);
  execute(conn);
  while (turn(conn, 0)) {
  }
  mq_nsq_ready(conn->command_buf, 1);
  execute(conn);
  CHECK(mq_client_close(conn->client, -1) == MQ_STATUS_OK);
  run_until(conn, &closes, 1);
  CHECK(!turn(conn, 0) && closes == 1);
}

static struct mq_nsq_reader *reader(const char *topic) {
  struct mq_nsq_cfg cfg = {0};
  cfg.lookupd_interval = 0.5;
  struct mq_nsq_reader *rdr = mq_nsq_reader_new_(NULL, topic, "c", &messages, &cfg, on_connect, on_close, on_message);
  CHECK(rdr != NULL && rdr->max_in_flight == 1);
  rdr->watch = watch;
  rdr->kick = kick;
  rdr->forget = forget;
  rdr->error_callback = on_error;
  return rdr;
}

int main(void) {
  struct mq_nsq_reader *rdr = reader("t");
  struct mq_nsq_conn *conn = mq_nsq_conn_new_(rdr, "mq:memory?test_clock=true");
  CHECK(conn != NULL);
  publish_all_ways(conn);
  credit_is_kept(conn);
  failures_are_reported(conn);
  a_secret_makes_the_connection_again_once(conn);
  the_end_is_reported(conn);
  mq_nsq_reader_free(rdr);

  // An nsqd and an nsqlookupd out of reach are connected to later.
  errors = 0;
  rdr = reader("t");
  CHECK(mq_nsq_reader_connect_to_nsqd(rdr, "127.0.0.1", 1) > 0);
  CHECK(mq_nsq_reader_connect_to_nsqd(rdr, "::1", 1) > 0);
  CHECK(mq_nsq_reader_add_nsqlookupd_endpoint(rdr, "127.0.0.1", 1) == 1);
  CHECK(mq_nsq_reader_add_nsqlookupd_endpoint(rdr, "127.0.0.1", 2) == 1);
  CHECK(rdr->conns->next->next != NULL && rdr->conns->next->next->next == NULL);
  CHECK(strcmp(rdr->lookup_url, "mq+lookup://127.0.0.1:1,127.0.0.1:2") == 0 && errors == 0);
  CHECK(mq_nsq_reader_connect_to_nsqd(rdr, "no host", 1) == 0 && errors == 1);
  mq_nsq_reader_free(rdr);
  rdr = reader("no topic");
  CHECK(mq_nsq_reader_connect_to_nsqd(rdr, "127.0.0.1", 1) == 0 && errors == 2);
  mq_nsq_reader_free(rdr);
  mq_nsq_reader_free(NULL);
  return 0;
}
