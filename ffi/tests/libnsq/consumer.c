// A program for libnsq, which compiles for libmq after the renames of examples/c/libnsq.sed.

#include "nsq.h"

static void on_connect(struct NSQReader *rdr, struct NSQDConnection *conn) {
  const char *both[] = {"one", "two"};
  struct Buffer *buf = new_buffer(64, 4096);
  nsq_publish(buf, rdr->topic, "single");
  nsq_multi_publish(buf, rdr->topic, both, 2);
  nsq_defer_publish(buf, rdr->topic, "later", 10);
  buffered_socket_write_buffer(conn->bs, buf);
  free_buffer(buf);
  _DEBUG("connected to %s:%d\n", conn->address, conn->port);
}

static void on_close(struct NSQReader *rdr, struct NSQDConnection *conn) {
  (void)conn;
  ev_break(rdr->loop, EVBREAK_ALL);
}

static void on_message(struct NSQReader *rdr, struct NSQDConnection *conn, struct NSQMessage *msg, void *ctx) {
  int *left = ctx;
  struct BufferedSocket *socket = conn->bs;
  buffer_reset(conn->command_buf);
  if (msg->attempts > 1 || msg->body_length > 0) {
    nsq_finish(conn->command_buf, msg->id);
  } else {
    nsq_touch(conn->command_buf, msg->id);
    nsq_requeue(conn->command_buf, msg->id, 100);
  }
  nsq_ready(conn->command_buf, rdr->max_in_flight);
  buffer_add(conn->command_buf, "NOP\n", 4);
  if (--*left == 0) {
    nsq_cleanly_close_connection(conn->command_buf);
    ev_break(conn->loop, EVBREAK_ALL);
  }
  buffered_socket_write_buffer(socket, conn->command_buf);
  printf("%.*s\n", (int)msg->body_length, msg->body);
  free_nsq_message(msg);
}

int main(int argc, char **argv) {
  struct NSQReaderCfg cfg = {.lookupd_interval = 5.0};
  struct ev_loop *loop = ev_default_loop(0);
  int left = 4;
  if (argc != 3) {
    return 1;
  }
  struct NSQReader *rdr = new_nsq_reader(loop, argv[2], "channel", &left, &cfg, on_connect, on_close, on_message);
  nsq_reader_connect_to_nsqd(rdr, "127.0.0.1", atoi(argv[1]));
  nsq_run(loop);
  free_nsq_reader(rdr);
  return 0;
}
