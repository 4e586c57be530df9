// mq_nsq.h on libev. https://github.com/libmq/libmq
//
// Header only: include it in the program that has libev, and link libev.

#ifndef MQ_NSQ_EV_H
#define MQ_NSQ_EV_H

#include <ev.h>

#include "mq_nsq.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline void mq_nsq_ev_ready_(struct ev_loop *loop, ev_io *io, int events) {
  (void)loop;
  (void)events;
  mq_nsq_conn_ready((struct mq_nsq_conn *)io->data);
}

static inline void mq_nsq_ev_watch_(struct mq_nsq_conn *conn, int is_on) {
  struct ev_loop *loop = (struct ev_loop *)conn->reader->loop;
  ev_io *io = (ev_io *)conn->watcher;
  if (io == NULL && is_on) {
    io = (ev_io *)calloc(1, sizeof(ev_io));
    if (io == NULL) {
      return;
    }
    ev_io_init(io, mq_nsq_ev_ready_, conn->fd, EV_READ);
    io->data = conn;
    conn->watcher = io;
  }
  if (io != NULL && is_on) {
    ev_io_start(loop, io);
  } else if (io != NULL) {
    ev_io_stop(loop, io);
  }
}

// Has the loop call, at once and also where the descriptor is not watched.
static inline void mq_nsq_ev_kick_(struct mq_nsq_conn *conn) {
  if (conn->watcher != NULL) {
    ev_feed_event((struct ev_loop *)conn->reader->loop, conn->watcher, EV_READ);
  }
}

static inline void mq_nsq_ev_forget_(struct mq_nsq_conn *conn) {
  ev_io_stop((struct ev_loop *)conn->reader->loop, (ev_io *)conn->watcher);
  free(conn->watcher);
  conn->watcher = NULL;
}

// A reader on a loop; cfg and the callbacks except msg_callback may be NULL.
static inline struct mq_nsq_reader *mq_nsq_reader_new(
    struct ev_loop *loop, const char *topic, const char *channel, void *ctx, const struct mq_nsq_cfg *cfg,
    void (*connect_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *),
    void (*close_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *),
    void (*msg_callback)(struct mq_nsq_reader *, struct mq_nsq_conn *, struct mq_nsq_message *, void *)) {
  struct mq_nsq_reader *reader =
      mq_nsq_reader_new_(loop, topic, channel, ctx, cfg, connect_callback, close_callback, msg_callback);
  if (reader != NULL) {
    reader->watch = mq_nsq_ev_watch_;
    reader->kick = mq_nsq_ev_kick_;
    reader->forget = mq_nsq_ev_forget_;
  }
  return reader;
}

// Runs the loop until it is broken.
static inline void mq_nsq_run(struct ev_loop *loop) { ev_run(loop, 0); }

#ifdef __cplusplus
}
#endif

#endif  // MQ_NSQ_EV_H
