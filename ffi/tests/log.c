// Log lines of a client: each client's go to its own callback, those of an embedded broker's threads too.

#define _DEFAULT_SOURCE
#include <pthread.h>

#include "check.h"

#define LINES_MAX 100

struct lines {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
  int n;
  char text[LINES_MAX][400];
  mq_log_level level[LINES_MAX];
};

static void on_log(void *user_data, mq_log_level level, mq_span line) {
  struct lines *lines = user_data;
  CHECK(line.len > 0 && memchr(line.data, '\n', line.len) == NULL);
  pthread_mutex_lock(&lines->lock);
  if (lines->n < LINES_MAX) {
    snprintf(lines->text[lines->n], sizeof lines->text[0], "%.*s", (int)line.len, line.data);
    lines->level[lines->n++] = level;
  }
  lines->thread = pthread_self();
  pthread_cond_broadcast(&lines->changed);
  pthread_mutex_unlock(&lines->lock);
}

static int find(const struct lines *lines, mq_log_level level, const char *text) {
  for (int i = 0; i < lines->n; i++) {
    if (lines->level[i] == level && strstr(lines->text[i], text) != NULL) {
      return 1;
    }
  }
  return 0;
}

static void wait_for(struct lines *lines, mq_log_level level, const char *text) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += PATIENCE_MS / 1000;
  pthread_mutex_lock(&lines->lock);
  while (!find(lines, level, text)) {
    if (pthread_cond_timedwait(&lines->changed, &lines->lock, &end) != 0) {
      fprintf(stderr, "no line has %s:\n", text);
      for (int i = 0; i < lines->n; i++) {
        fprintf(stderr, "%d %s\n", (int)lines->level[i], lines->text[i]);
      }
      exit(1);
    }
  }
  CHECK(!pthread_equal(lines->thread, pthread_self()));
  pthread_mutex_unlock(&lines->lock);
}

static void init(struct lines *lines, mq_config *config) {
  memset(lines, 0, sizeof *lines);
  CHECK(pthread_mutex_init(&lines->lock, NULL) == 0 && pthread_cond_init(&lines->changed, NULL) == 0);
  mq_config fresh = MQ_CONFIG_INIT;
  *config = fresh;
  config->on_log = on_log;
  config->log_user_data = lines;
}

// A broker that runs in it replaces files meanwhile: what it makes behind rm's back is removed by the next try.
static void remove_folder(const char *folder) {
  char command[96];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  int tries = 0;
  while (system(command) != 0) CHECK(++tries < 100);
}

// Of the thread that opens it, and of its own threads.
static void a_broker_in_this_process(void) {
  char folder[] = "/tmp/libmq-c-XXXXXX", name[96];
  CHECK(mkdtemp(folder) != NULL);
  snprintf(name, sizeof name, "%s/nsqd.dat", folder);
  FILE *theirs = fopen(name, "w");
  CHECK(theirs != NULL && fclose(theirs) == 0);
  struct lines lines, others;
  mq_config config;
  mq_client *client, *other;
  init(&others, &config);
  OK(mq_connect("mq:memory", &config, &other));
  init(&lines, &config);
  config.durability = MQ_DURABILITY_SYNC;
  // Its outcome stays unknown.
  config.publish_timeout_ms = 200;
  OK(mq_connect(folder, &config, &client));
  wait_for(&lines, MQ_LOG_LEVEL_WARNING, "nsqd.dat");

  remove_folder(folder);
  mq_span body = span("one");
  CHECK(mq_publish(client, "t", &body, 1, NULL, NULL) != MQ_STATUS_OK);
  wait_for(&lines, MQ_LOG_LEVEL_ERROR, "was moved, removed");
  mq_client_free(client);
  mq_client_free(other);
  CHECK(others.n == 0);
}

static void brokers_over_the_network(void) {
  mq_client *broker, *client, *nowhere;
  mq_subscription *subscription;
  mq_addresses addresses;
  const char *flags[] = {"--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address="};
  OK(mq_connect("mq:memory", NULL, &broker));
  OK(mq_client_serve(broker, flags, 3, &addresses));
  char url[64], connected[64], ended[80];
  snprintf(url, sizeof url, "mq://%s", addresses.tcp);
  snprintf(connected, sizeof connected, "connected to %s", addresses.tcp);
  snprintf(ended, sizeof ended, "the connection to %s ended", addresses.tcp);
  struct lines lines, others;
  mq_config config;
  init(&lines, &config);
  config.user_agent = "log.c";
  config.compression = "snappy";
  config.heartbeat_interval_ms = 1000;
  OK(mq_connect(url, &config, &client));
  OK(mq_subscribe(client, "t", "c", NULL, &subscription));
  wait_for(&lines, MQ_LOG_LEVEL_INFO, connected);
  lines.n = 0;
  publish(client, "t", "message");
  wait_for(&lines, MQ_LOG_LEVEL_INFO, connected);
  init(&others, &config);
  // Nothing listens on port 1.
  OK(mq_connect("mq://127.0.0.1:1", &config, &nowhere));
  mq_span body = span("one");
  mq_pending *pending;
  OK(mq_publish_async(nowhere, "t", &body, 1, NULL, NULL, NULL, &pending));
  wait_for(&others, MQ_LOG_LEVEL_WARNING, "127.0.0.1:1");
  CHECK(!find(&others, MQ_LOG_LEVEL_INFO, "connected"));

  OK(mq_client_close(broker, PATIENCE_MS));
  wait_for(&lines, MQ_LOG_LEVEL_WARNING, ended);
  mq_addresses_free(&addresses);
  mq_pending_free(pending);
  mq_client_free(nowhere);
  // The lines outlive the client for the subscription alone.
  mq_client_free(client);
  mq_subscription_free(subscription);
  mq_client_free(broker);
}

static void settings_of_a_client_are_checked(void) {
  mq_client *client;
  mq_config config = MQ_CONFIG_INIT;
  config.compression = "zip";
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq://127.0.0.1:1", &config, &client));
  config.compression = NULL;
  config.publish_to = 2;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq://127.0.0.1:1", &config, &client));
  config.publish_to = MQ_PUBLISH_TO_ALL;
  config.retry = -1;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq://127.0.0.1:1", &config, &client));
  config.retry = MQ_RETRY_AT_LEAST_ONCE;
  config.tls_cert_file = "cert.pem";
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq://127.0.0.1:1", &config, &client));
  CHECK(strstr(mq_last_error(), "tls_key_file") != NULL);
  config.tls_cert_file = NULL;
  config.heartbeat_interval_ms = 1;
  STATUS(MQ_STATUS_INVALID_ARGUMENT, mq_connect("mq://127.0.0.1:1", &config, &client));
  config.heartbeat_interval_ms = 0;
  config.plain_nsq = 1;
  OK(mq_connect("mq://127.0.0.1:1", &config, &client));
  mq_client_free(client);
  config.test_clock = 1;
  OK(mq_connect("mq:memory", &config, &client));
  OK(mq_client_advance(client, 1000));
  mq_client_free(client);
}

int main(void) {
  settings_of_a_client_are_checked();
  a_broker_in_this_process();
  brokers_over_the_network();
  return 0;
}
