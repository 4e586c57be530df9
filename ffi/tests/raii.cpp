// mq.hpp: owners, ranges, exceptions.

#include "mq.hpp"

#include <poll.h>

#include <cassert>
#include <type_traits>

#include "check.h"

using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<mq::client> && std::is_nothrow_move_constructible_v<mq::client>);
static_assert(!std::is_copy_constructible_v<mq::batch> && std::is_nothrow_move_constructible_v<mq::batch>);
static_assert(!std::is_copy_assignable_v<mq::subscription> && std::is_nothrow_move_assignable_v<mq::subscription>);
static_assert(!std::is_copy_constructible_v<mq::pending>);

template <typename Call>
static mq_status thrown(Call call) {
  try {
    call();
  } catch (const mq::error &error) {
    CHECK(strlen(error.what()) > 0);
    return error.status();
  }
  return MQ_STATUS_OK;
}

static void publish_and_consume() {
  mq::client client("mq:memory");
  mq::subscription billing = client.subscribe("orders", "billing");
  mq_header colour = {span("colour"), span("red")};
  mq_publish_options options = MQ_PUBLISH_OPTIONS_INIT;
  options.headers = &colour;
  options.headers_len = 1;
  mq_receipt first = client.publish("orders", "one", options);
  std::vector<std::string> bodies = {"two", "three"};
  std::vector<mq_receipt> more = client.publish("orders", bodies);
  CHECK(more.size() == 2 && more[1].offset == first.offset + 2);
  client.publish("orders", {"four", "five"});

  std::string all;
  while (all != "one two three four five ") {
    std::optional<mq::batch> batch = billing.next(60s);
    CHECK(batch && !batch->empty());
    for (const mq::message &message : *batch) {
      all += std::string(message.body()) + " ";
      CHECK(message.attempts() == 1 && message.offset() && message.broker() == "mq:memory");
      CHECK(message.headers() == (message.body() == "one" ? 1u : 0u));
    }
    if (all.find("one ") == 0 && (*batch)[0].body() == "one") {
      CHECK((*batch)[0].header_at(0).name == "colour" && (*batch)[0].header_at(0).value == "red");
    }
    mq::batch moved = std::move(*batch);
    moved.touch();
    moved.finish();
  }
  CHECK(!billing.next(0ms));
  CHECK(billing.failures().empty());
  billing.flush();
  billing.close();
  CHECK(thrown([&] { billing.next(); }) == MQ_STATUS_CLOSED);
}

static void in_the_background_and_by_descriptor() {
  mq::client client("mq:memory");
  mq::subscription all = client.subscribe("t", "all");
  int fd = all.fd();
  CHECK(!all.poll());
  std::vector<std::string> bodies(10, "message");
  mq::pending pending = client.publish_async("t", bodies);
  CHECK(pending.wait(60s).size() == 10 && pending.state() == MQ_PUBLISH_STATE_STORED);
  mq::pending single = client.publish_async("t", "last");
  pollfd outcome = {single.fd(), POLLIN, 0};
  CHECK(::poll(&outcome, 1, PATIENCE_MS) == 1);
  CHECK(single.wait(0ms).size() == 1);
  for (std::size_t left = 11; left > 0;) {
    pollfd wanted = {fd, POLLIN, 0};
    CHECK(::poll(&wanted, 1, PATIENCE_MS) == 1);
    std::optional<mq::batch> batch = all.poll();
    CHECK(batch && batch->size() <= left);
    left -= batch->size();
    batch->finish();
  }
  client.flush();
  client.close();
  CHECK(thrown([&] { client.publish("t", "late"); }) == MQ_STATUS_CLOSED);
}

static void errors_are_thrown() {
  CHECK(thrown([] { mq::client("localhost"); }) == MQ_STATUS_INVALID_ARGUMENT);
  mq::client client("mq:memory");
  CHECK(thrown([&] { client.publish("no topic", "x"); }) == MQ_STATUS_INVALID_NAME);
  CHECK(thrown([&] { client.subscribe("t", ""); }) == MQ_STATUS_INVALID_NAME);
  CHECK(thrown([&] { client.advance(1s); }) == MQ_STATUS_UNSUPPORTED);
  client.create_channel("t", "c");
  CHECK(client.stats().find("\"name\":\"c\"") != std::string::npos);
  mq_topic_settings settings = client.topic_settings("t");
  settings.max_messages = 5;
  client.set_topic_settings("t", settings);
  CHECK(client.topic_settings("t").max_messages == 5);
  CHECK(thrown([&] { client.topic_settings("missing"); }) == MQ_STATUS_REFUSED);
  client.create_channel("t", "c");
  mq::channel_settings channel = client.channel_settings("t", "c");
  CHECK(channel.max_attempts == 0 && channel.dead_letter_topic.empty() && channel.redelivery_delay == 1s);
  channel.max_attempts = 5;
  channel.dead_letter_topic = "t.dead";
  channel.redelivery_delay = 250ms;
  client.set_channel_settings("t", "c", channel);
  channel = client.channel_settings("t", "c");
  CHECK(channel.max_attempts == 5 && channel.dead_letter_topic == "t.dead" && channel.redelivery_delay == 250ms);
  channel.dead_letter_topic = std::string(100, 'n');
  CHECK(thrown([&] { client.set_channel_settings("t", "c", channel); }) == MQ_STATUS_INVALID_NAME);
  mq::client moved = std::move(client);
  moved.delete_channel("t", "c");
  moved.delete_topic("t");
  moved.delete_topic("t.dead");
  CHECK(moved.stats().find("\"name\"") == std::string::npos);
}

static void served_to_another() {
  mq::client broker("mq:memory");
  mq::addresses addresses = broker.serve({"--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address="});
  CHECK(addresses.http.empty() && addresses.https.empty() && addresses.grpc.empty());
  mq::client other("mq://" + addresses.tcp);
  mq::subscription all = other.subscribe("t", "all");
  mq_receipt receipt = other.publish("t", "over the network");
  CHECK(receipt.offset != MQ_OFFSET_UNKNOWN && !receipt.duplicate);
  std::optional<mq::batch> batch = all.next(60s);
  CHECK(batch && (*batch)[0].body() == "over the network" && (*batch)[0].offset() == receipt.offset);
  batch->finish();
  all.close();
  CHECK(thrown([&] { broker.serve({"--no-such-flag"}); }) == MQ_STATUS_INVALID_ARGUMENT);
  CHECK(thrown([&] { other.serve(); }) == MQ_STATUS_UNSUPPORTED);
}

int main() {
  served_to_another();
  publish_and_consume();
  in_the_background_and_by_descriptor();
  errors_are_thrown();
  return 0;
}
