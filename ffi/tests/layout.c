// The header by itself, in every standard of C and C++: it compiles without a warning, and its structs have the
// sizes that programs were compiled with.

#include "mq.h"

#if defined(__cplusplus)
#define ASSERT(condition) static_assert(condition, #condition)
#elif __STDC_VERSION__ >= 202311L
#define ASSERT(condition) static_assert(condition, #condition)
#elif __STDC_VERSION__ >= 201112L
#define ASSERT(condition) _Static_assert(condition, #condition)
#else
#define ASSERT(condition) extern int asserted[(condition) ? 1 : -1]
#endif

ASSERT(MQ_ABI_VERSION == 1);
ASSERT(sizeof(mq_status) == 4 && sizeof(mq_durability) == 4 && sizeof(mq_start) == 4);

#if UINTPTR_MAX == UINT64_MAX
ASSERT(sizeof(mq_span) == 16 && offsetof(mq_span, len) == 8);
ASSERT(sizeof(mq_header) == 32 && offsetof(mq_header, value) == 16);
ASSERT(sizeof(mq_receipt) == 16 && offsetof(mq_receipt, duplicate) == 8);
ASSERT(sizeof(mq_message) == 80 && offsetof(mq_message, attempts) == 16 && offsetof(mq_message, timestamp_ns) == 24);
ASSERT(offsetof(mq_message, id) == 32 && offsetof(mq_message, offset) == 40 && offsetof(mq_message, headers) == 48);
ASSERT(offsetof(mq_message, headers_len) == 56 && offsetof(mq_message, broker) == 64);
ASSERT(sizeof(mq_failure) == 48 && offsetof(mq_failure, message_id) == 8 && offsetof(mq_failure, reason) == 32);
ASSERT(offsetof(mq_config, size) == 0 && offsetof(mq_config, client_id) == 40 && offsetof(mq_config, durability) == 68);
ASSERT(sizeof(mq_config) == 152 && offsetof(mq_config, publish_to) == 112 && offsetof(mq_config, log_user_data) == 136);
ASSERT(sizeof(mq_topic_settings) == 56 && offsetof(mq_topic_settings, max_messages) == 16);
ASSERT(offsetof(mq_topic_settings, dedup_max_ids) == 48 && offsetof(mq_subscribe_options, sample_rate) == 56);
ASSERT(sizeof(mq_channel_settings) == 88 && offsetof(mq_channel_settings, max_attempts) == 16);
ASSERT(offsetof(mq_channel_settings, dead_letter_topic) == 18 && sizeof(((mq_channel_settings *)0)->dead_letter_topic) == MQ_NAME_SIZE);
ASSERT(offsetof(mq_publish_options, id) == 8 && offsetof(mq_publish_options, ids) == 48);
ASSERT(sizeof(mq_publish_options) == 64 && offsetof(mq_publish_options, timeout_ms) == 56);
ASSERT(sizeof(mq_subscribe_options) == 72 && offsetof(mq_subscribe_options, max_message_bytes) == 60);
ASSERT(offsetof(mq_subscribe_options, max_in_flight_bytes) == 64);
ASSERT(offsetof(mq_subscribe_options, start_at) == 32 && offsetof(mq_subscribe_options, user_data) == 48);
#endif

#ifdef __cplusplus
extern "C"
#endif
mq_status started(mq_client **client);

mq_status started(mq_client **client) {
  mq_config config = MQ_CONFIG_INIT;
  mq_publish_options publish = MQ_PUBLISH_OPTIONS_INIT;
  mq_subscribe_options subscribe = MQ_SUBSCRIBE_OPTIONS_INIT;
  config.durability = MQ_DURABILITY_SYNC;
  return publish.size == 0 || subscribe.size == 0 ? MQ_STATUS_OTHER : mq_connect("mq:memory", &config, client);
}
