// A worker in C++: prints each message and finishes it, until SIGINT, SIGTERM, or COUNT messages.
//
//   ./worker mq://127.0.0.1:4150 TOPIC CHANNEL [COUNT]

#include <mq.hpp>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>

namespace {

volatile std::sig_atomic_t is_interrupted = 0;

void run(const std::string &url, const std::string &topic, const std::string &channel, std::size_t left) {
  using namespace std::chrono_literals;
  mq::client client(url);
  mq::subscription subscription = client.subscribe(topic, channel);
  while (left > 0 && is_interrupted == 0) {
    std::optional<mq::batch> batch = subscription.next(200ms);
    if (!batch) {
      continue;
    }
    std::size_t done = 0;
    for (const mq::message &message : *batch) {
      if (done == left) {
        break;
      }
      std::cout << message.body() << '\n';
      done++;
    }
    std::cout.flush();
    // Messages without an answer go back at the end of this block, as after an exception.
    batch->finish(0, done);
    left -= done;
    for (const mq::failure &failure : subscription.failures()) {
      std::cerr << failure.reason << '\n';
    }
  }
  // The last answers go out before the program ends.
  subscription.close(5s);
  client.close(5s);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 4 && argc != 5) {
    std::cerr << "usage: " << argv[0] << " URL TOPIC CHANNEL [COUNT]\n";
    return EXIT_FAILURE;
  }
  for (int signal : {SIGINT, SIGTERM}) {
    std::signal(signal, [](int) { is_interrupted = 1; });
  }
  try {
    run(argv[1], argv[2], argv[3], argc == 5 ? std::stoul(argv[4]) : SIZE_MAX);
  } catch (const mq::error &error) {
    std::cerr << error.what() << '\n';
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
