# Turns a program for libnsq into one for libmq: sed -E -f libnsq.sed -i program.c
s/#include [<"](nsq|evbuffsock)\.h[>"]/#include <mq_nsq_ev.h>/
s/\bNSQReaderCfg\b/mq_nsq_cfg/g
s/\bNSQReader\b/mq_nsq_reader/g
s/\bNSQDConnection\b/mq_nsq_conn/g
s/\bNSQMessage\b/mq_nsq_message/g
s/\bstruct BufferedSocket\b/struct mq_nsq_socket/g
s/\bstruct Buffer\b/struct mq_nsq_buffer/g
s/\bnew_nsq_reader\b/mq_nsq_reader_new/g
s/\bfree_nsq_reader\b/mq_nsq_reader_free/g
s/\bfree_nsq_message\b/mq_nsq_message_free/g
s/\bnew_buffer\b/mq_nsq_buffer_new/g
s/\bfree_buffer\b/mq_nsq_buffer_free/g
s/\bbuffer_(reset|add)\b/mq_nsq_buffer_\1/g
s/\bbuffered_socket_write_buffer\b/mq_nsq_socket_write_buffer/g
s/\b_DEBUG\b/MQ_NSQ_DEBUG/g
s/\bnsq_(reader_connect_to_nsqd|reader_add_nsqlookupd_endpoint|run|subscribe|ready|finish|requeue|touch|nop)\b/mq_nsq_\1/g
s/\bnsq_(publish|multi_publish|defer_publish|cleanly_close_connection|auth|identify)\b/mq_nsq_\1/g
