// libmq for C++17: mq.h with owners, ranges and exceptions. https://github.com/libmq/libmq
//
// Each class owns one handle of mq.h, moves and does not copy. A call that fails throws mq::error, which has the
// status, the reason and whether to try again. Whoever wants error values instead calls the functions of mq.h
// with get(). The thread safety and lifetimes are those of mq.h: what a batch gives out is valid as long as the
// batch, and no destructor waits for publishes without a receipt: client::close does.

#ifndef MQ_HPP
#define MQ_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "mq.h"

namespace mq {

// Reason why a call failed.
class error : public std::runtime_error {
 public:
  error(mq_status status, const char *reason, bool retry)
      : std::runtime_error(*reason != '\0' ? reason : mq_status_name(static_cast<int32_t>(status))),
        status_(status),
        retry_(retry) {}

  mq_status status() const noexcept { return status_; }

  // Whether the same call can succeed later without a change by the caller.
  bool retry() const noexcept { return retry_; }

 private:
  mq_status status_;
  bool retry_;
};

// Throws the last error of this thread unless status is a success.
inline void check(mq_status status) {
  if (status != MQ_STATUS_OK) {
    throw error(status, mq_last_error(), mq_last_error_retry());
  }
}

// A wait in milliseconds; `forever` has no end.
using timeout = std::chrono::milliseconds;
inline constexpr timeout forever{-1};

namespace detail {

inline mq_span span_of(std::string_view text) { return mq_span{text.data(), text.size()}; }
inline std::string_view view_of(mq_span span) { return span.len == 0 ? std::string_view() : std::string_view(span.data, span.len); }

// Waits longer than an int can say are for ever.
inline int count_of(timeout wait) {
  return wait.count() < 0 || wait.count() > INT32_MAX ? -1 : static_cast<int>(wait.count());
}

template <typename Handle, void (*Free)(Handle *)>
struct freed {
  void operator()(Handle *handle) const noexcept { Free(handle); }
};

template <typename Handle, void (*Free)(Handle *)>
using owned = std::unique_ptr<Handle, freed<Handle, Free>>;

}  // namespace detail

// A header of a message that came.
struct header {
  std::string_view name, value;
};

// A message of a batch, valid as long as the batch.
class message {
 public:
  explicit message(const mq_message &raw) noexcept : raw_(raw) {}

  std::string_view body() const noexcept { return detail::view_of(raw_.body); }
  uint16_t attempts() const noexcept { return raw_.attempts; }
  uint64_t timestamp_ns() const noexcept { return raw_.timestamp_ns; }
  uint64_t id() const noexcept { return raw_.id; }
  std::string_view broker() const noexcept { return detail::view_of(raw_.broker); }

  // Its place in its topic; none where the broker does not say.
  std::optional<uint64_t> offset() const noexcept {
    return raw_.offset == MQ_OFFSET_UNKNOWN ? std::nullopt : std::optional<uint64_t>(raw_.offset);
  }

  std::size_t headers() const noexcept { return raw_.headers_len; }
  header header_at(std::size_t i) const noexcept {
    return {detail::view_of(raw_.headers[i].name), detail::view_of(raw_.headers[i].value)};
  }

  const mq_message &raw() const noexcept { return raw_; }

 private:
  mq_message raw_;
};

// Messages that came together, a range. Those without an answer go back when it is destroyed.
class batch {
 public:
  explicit batch(mq_batch *handle) noexcept : handle_(handle) {}

  std::size_t size() const noexcept { return mq_batch_len(get()); }
  bool empty() const noexcept { return size() == 0; }

  message operator[](std::size_t i) const {
    mq_message raw;
    check(mq_batch_message(get(), i, &raw));
    return message(raw);
  }

  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = message;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = message;

    iterator(const batch *of, std::size_t at) noexcept : of_(of), at_(at) {}
    message operator*() const { return (*of_)[at_]; }
    iterator &operator++() noexcept {
      ++at_;
      return *this;
    }
    iterator operator++(int) noexcept { return iterator(of_, at_++); }
    bool operator==(const iterator &other) const noexcept { return at_ == other.at_; }
    bool operator!=(const iterator &other) const noexcept { return at_ != other.at_; }

   private:
    const batch *of_;
    std::size_t at_;
  };

  iterator begin() const noexcept { return {this, 0}; }
  iterator end() const noexcept { return {this, size()}; }

  // Answers to all messages, or to those from `from` up to, not including, `to`.
  void finish() { finish(0, size()); }
  void finish(std::size_t from, std::size_t to) { check(mq_batch_finish(get(), from, to)); }
  void requeue(timeout delay) { requeue(0, size(), delay); }
  void requeue(std::size_t from, std::size_t to, timeout delay) {
    check(mq_batch_requeue(get(), from, to, delay.count() < 0 ? 0 : static_cast<uint64_t>(delay.count())));
  }
  // mq_batch_release: release() gives the handle away, as everywhere.
  void give_back() { give_back(0, size()); }
  void give_back(std::size_t from, std::size_t to) { check(mq_batch_release(get(), from, to)); }
  void touch() { touch(0, size()); }
  void touch(std::size_t from, std::size_t to) { check(mq_batch_touch(get(), from, to)); }

  mq_batch *get() const noexcept { return handle_.get(); }
  mq_batch *release() noexcept { return handle_.release(); }

 private:
  detail::owned<mq_batch, mq_batch_free> handle_;
};

// An answer or server that failed.
struct failure {
  mq_status status;
  std::optional<uint64_t> message_id;
  std::string broker, reason;
};

// A subscription to a channel. Destroyed, it ends.
class subscription {
 public:
  explicit subscription(mq_subscription *handle) noexcept : handle_(handle) {}

  // Waits for messages; none if none came in time.
  std::optional<batch> next(timeout wait = forever) {
    mq_batch *made = nullptr;
    mq_status status = mq_subscription_next(get(), detail::count_of(wait), &made);
    return taken(status, made);
  }

  // The messages that are there now.
  std::optional<batch> poll() {
    mq_batch *made = nullptr;
    mq_status status = mq_subscription_poll(get(), &made);
    return taken(status, made);
  }

  // A descriptor that is readable exactly while poll() would give something. The library closes it.
  int fd() const {
    int fd = mq_subscription_fd(get());
    if (fd < 0) {
      throw error(MQ_STATUS_OTHER, mq_last_error(), mq_last_error_retry());
    }
    return fd;
  }

  std::vector<failure> failures() {
    mq_failures *made = nullptr;
    check(mq_subscription_failures(get(), &made));
    detail::owned<mq_failures, mq_failures_free> owner(made);
    std::vector<failure> all;
    for (std::size_t i = 0; i < mq_failures_len(made); i++) {
      mq_failure raw;
      check(mq_failures_get(made, i, &raw));
      auto id = raw.has_message ? std::optional<uint64_t>(raw.message_id) : std::nullopt;
      all.push_back({raw.status, id, std::string(detail::view_of(raw.broker)), std::string(detail::view_of(raw.reason))});
    }
    return all;
  }

  // Waits until the answers given so far are in the log of their broker.
  void flush(timeout wait = forever) { check(mq_subscription_flush(get(), detail::count_of(wait))); }

  void close(timeout wait = forever) { check(mq_subscription_close(get(), detail::count_of(wait))); }

  mq_subscription *get() const noexcept { return handle_.get(); }
  mq_subscription *release() noexcept { return handle_.release(); }

 private:
  static std::optional<batch> taken(mq_status status, mq_batch *made) {
    if (status == MQ_STATUS_TIMEOUT || status == MQ_STATUS_EMPTY) {
      return std::nullopt;
    }
    check(status);
    return batch(made);
  }

  detail::owned<mq_subscription, mq_subscription_free> handle_;
};

// Messages on their way.
class pending {
 public:
  pending(mq_pending *handle, std::size_t messages) noexcept : handle_(handle), messages_(messages) {}

  mq_publish_state state() const noexcept { return mq_pending_state(get()); }

  // Waits for the receipts; throws with MQ_STATUS_TIMEOUT if there are none in time.
  std::vector<mq_receipt> wait(timeout limit = forever) const {
    std::vector<mq_receipt> receipts(messages_);
    check(mq_pending_wait(get(), detail::count_of(limit), receipts.data()));
    return receipts;
  }

  // A descriptor that is readable once there is an outcome. The library closes it.
  int fd() const {
    int fd = mq_pending_fd(get());
    if (fd < 0) {
      throw error(MQ_STATUS_OTHER, mq_last_error(), mq_last_error_retry());
    }
    return fd;
  }

  mq_pending *get() const noexcept { return handle_.get(); }

 private:
  detail::owned<mq_pending, mq_pending_free> handle_;
  std::size_t messages_;
};

// Addresses that a served broker listens at; empty where it does not.
struct addresses {
  std::string tcp, http, https, grpc;
};

// Settings of a channel of an embedded broker, as mq_channel_settings says.
struct channel_settings {
  uint16_t max_attempts = 0;
  // Empty: none.
  std::string dead_letter_topic;
  std::chrono::milliseconds redelivery_delay{1000};
};

// A client of brokers, or of one in this process.
class client {
 public:
  explicit client(const std::string &url, const mq_config &config = MQ_CONFIG_INIT) {
    mq_client *made = nullptr;
    check(mq_connect(url.c_str(), &config, &made));
    handle_.reset(made);
  }
  explicit client(mq_client *handle) noexcept : handle_(handle) {}

  // Publishes a message and waits until it is stored.
  mq_receipt publish(const std::string &topic, std::string_view body,
                     const mq_publish_options &options = MQ_PUBLISH_OPTIONS_INIT) {
    mq_span one = detail::span_of(body);
    mq_receipt receipt;
    check(mq_publish(get(), topic.c_str(), &one, 1, &options, &receipt));
    return receipt;
  }

  // Publishes a range of bodies as one batch, all or nothing.
  template <typename Bodies, typename = std::enable_if_t<!std::is_convertible_v<const Bodies &, std::string_view>>>
  std::vector<mq_receipt> publish(const std::string &topic, const Bodies &bodies,
                                  const mq_publish_options &options = MQ_PUBLISH_OPTIONS_INIT) {
    std::vector<mq_span> spans = spans_of(bodies);
    std::vector<mq_receipt> receipts(spans.size());
    check(mq_publish(get(), topic.c_str(), spans.data(), spans.size(), &options, receipts.data()));
    return receipts;
  }
  std::vector<mq_receipt> publish(const std::string &topic, std::initializer_list<std::string_view> bodies,
                                  const mq_publish_options &options = MQ_PUBLISH_OPTIONS_INIT) {
    return publish<std::initializer_list<std::string_view>>(topic, bodies, options);
  }

  // The same in the background: the result has the outcome.
  pending publish_async(const std::string &topic, std::string_view body,
                        const mq_publish_options &options = MQ_PUBLISH_OPTIONS_INIT) {
    mq_span one = detail::span_of(body);
    return sent(topic, &one, 1, options);
  }
  template <typename Bodies, typename = std::enable_if_t<!std::is_convertible_v<const Bodies &, std::string_view>>>
  pending publish_async(const std::string &topic, const Bodies &bodies,
                        const mq_publish_options &options = MQ_PUBLISH_OPTIONS_INIT) {
    std::vector<mq_span> spans = spans_of(bodies);
    return sent(topic, spans.data(), spans.size(), options);
  }

  mq::subscription subscribe(const std::string &topic, const std::string &channel,
                             const mq_subscribe_options &options = MQ_SUBSCRIBE_OPTIONS_INIT) {
    mq_subscription *made = nullptr;
    check(mq_subscribe(get(), topic.c_str(), channel.c_str(), &options, &made));
    return mq::subscription(made);
  }

  // Waits until every publish has its outcome; throws with MQ_STATUS_TIMEOUT if some have none in time.
  void flush(timeout wait = forever) { check(mq_client_flush(get(), detail::count_of(wait), nullptr)); }

  void close(timeout wait = forever) { check(mq_client_close(get(), detail::count_of(wait))); }

  void create_topic(const std::string &topic) { check(mq_topic_create(get(), topic.c_str())); }
  void delete_topic(const std::string &topic) { check(mq_topic_delete(get(), topic.c_str())); }
  void empty_topic(const std::string &topic) { check(mq_topic_empty(get(), topic.c_str())); }
  void pause_topic(const std::string &topic) { check(mq_topic_pause(get(), topic.c_str())); }
  void unpause_topic(const std::string &topic) { check(mq_topic_unpause(get(), topic.c_str())); }
  void create_channel(const std::string &topic, const std::string &channel) {
    check(mq_channel_create(get(), topic.c_str(), channel.c_str()));
  }
  void delete_channel(const std::string &topic, const std::string &channel) {
    check(mq_channel_delete(get(), topic.c_str(), channel.c_str()));
  }
  void empty_channel(const std::string &topic, const std::string &channel) {
    check(mq_channel_empty(get(), topic.c_str(), channel.c_str()));
  }
  void pause_channel(const std::string &topic, const std::string &channel) {
    check(mq_channel_pause(get(), topic.c_str(), channel.c_str()));
  }
  void unpause_channel(const std::string &topic, const std::string &channel) {
    check(mq_channel_unpause(get(), topic.c_str(), channel.c_str()));
  }

  mq_topic_settings topic_settings(const std::string &topic) {
    mq_topic_settings settings = MQ_TOPIC_SETTINGS_INIT;
    check(mq_topic_get_settings(get(), topic.c_str(), &settings));
    return settings;
  }
  void set_topic_settings(const std::string &topic, const mq_topic_settings &settings) {
    check(mq_topic_set_settings(get(), topic.c_str(), &settings));
  }

  mq::channel_settings channel_settings(const std::string &topic, const std::string &channel) {
    mq_channel_settings raw = MQ_CHANNEL_SETTINGS_INIT;
    check(mq_channel_get_settings(get(), topic.c_str(), channel.c_str(), &raw));
    return {raw.max_attempts, raw.dead_letter_topic, std::chrono::milliseconds(raw.redelivery_delay_ms)};
  }
  void set_channel_settings(const std::string &topic, const std::string &channel, const mq::channel_settings &settings) {
    mq_channel_settings raw = MQ_CHANNEL_SETTINGS_INIT;
    raw.max_attempts = settings.max_attempts;
    // A name that does not fit is no name: the library says so of what fits.
    settings.dead_letter_topic.copy(raw.dead_letter_topic, sizeof raw.dead_letter_topic - 1);
    auto delay = settings.redelivery_delay.count();
    raw.redelivery_delay_ms = delay < 0 ? 0 : static_cast<uint64_t>(delay);
    check(mq_channel_set_settings(get(), topic.c_str(), channel.c_str(), &raw));
  }

  // The statistics of an embedded broker as JSON.
  std::string stats() {
    char *json = nullptr;
    check(mq_client_stats(get(), &json));
    detail::owned<char, mq_string_free> owner(json);
    return std::string(json);
  }

  // Serves an embedded broker to others, by the flags of `mq serve`.
  addresses serve(const std::vector<std::string> &flags = {}) {
    std::vector<const char *> texts;
    for (const std::string &flag : flags) {
      texts.push_back(flag.c_str());
    }
    mq_addresses raw;
    check(mq_client_serve(get(), texts.data(), texts.size(), &raw));
    std::unique_ptr<mq_addresses, void (*)(mq_addresses *)> owner(&raw, mq_addresses_free);
    auto text = [](const char *address) { return std::string(address == nullptr ? "" : address); };
    return {text(raw.tcp), text(raw.http), text(raw.https), text(raw.grpc)};
  }

  // Advances the clock of "mq:memory?test_clock=true".
  void advance(timeout by) { check(mq_client_advance(get(), by.count() < 0 ? 0 : static_cast<uint64_t>(by.count()))); }

  mq_client *get() const noexcept { return handle_.get(); }
  mq_client *release() noexcept { return handle_.release(); }

 private:
  template <typename Bodies>
  static std::vector<mq_span> spans_of(const Bodies &bodies) {
    std::vector<mq_span> spans;
    for (const auto &body : bodies) {
      spans.push_back(detail::span_of(std::string_view(body)));
    }
    return spans;
  }

  pending sent(const std::string &topic, const mq_span *bodies, std::size_t n, const mq_publish_options &options) {
    mq_pending *made = nullptr;
    check(mq_publish_async(get(), topic.c_str(), bodies, n, &options, nullptr, nullptr, &made));
    return pending(made, n);
  }

  detail::owned<mq_client, mq_client_free> handle_;
};

}  // namespace mq

#endif  // MQ_HPP
