// A consumer that comes from libnsq, on libev: prints each message and finishes it, until COUNT messages.
//
//   make nsq_reader && ./nsq_reader 127.0.0.1 4150 TOPIC CHANNEL COUNT

#include <mq_nsq_ev.h>

static long left;

static void on_message(struct mq_nsq_reader *rdr, struct mq_nsq_conn *conn, struct mq_nsq_message *msg, void *ctx) {
  (void)ctx;
  printf("%.*s\n", (int)msg->body_length, msg->body);
  mq_nsq_buffer_reset(conn->command_buf);
  mq_nsq_finish(conn->command_buf, msg->id);
  mq_nsq_socket_write_buffer(conn->bs, conn->command_buf);
  mq_nsq_message_free(msg);

  // With a credit of 0 nothing more comes, and the loop may end.
  if (--left == 0) {
    mq_nsq_ready(conn->command_buf, 0);
    mq_nsq_socket_write_buffer(conn->bs, conn->command_buf);
    ev_break((struct ev_loop *)rdr->loop, EVBREAK_ALL);
  }
}

static void on_error(struct mq_nsq_reader *rdr, struct mq_nsq_conn *conn, const char *reason) {
  (void)rdr;
  (void)conn;
  fprintf(stderr, "%s\n", reason);
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: %s ADDRESS PORT TOPIC CHANNEL COUNT\n", argv[0]);
    return EXIT_FAILURE;
  }
  left = strtol(argv[5], NULL, 10);
  struct ev_loop *loop = ev_default_loop(0);
  struct mq_nsq_reader *rdr = mq_nsq_reader_new(loop, argv[3], argv[4], NULL, NULL, NULL, NULL, on_message);
  if (rdr == NULL) {
    return EXIT_FAILURE;
  }
  rdr->error_callback = on_error;
  rdr->max_in_flight = 10;
  if (mq_nsq_reader_connect_to_nsqd(rdr, argv[1], atoi(argv[2])) == 0) {
    return EXIT_FAILURE;
  }
  mq_nsq_run(loop);
  // The last answers go out before the program ends.
  for (struct mq_nsq_conn *conn = rdr->conns; conn != NULL; conn = conn->next) {
    mq_subscription_close(conn->subscription, 5000);
  }
  mq_nsq_reader_free(rdr);
  ev_loop_destroy(loop);
  return EXIT_SUCCESS;
}
