'use strict'
// What nsqjs has and this does not: connections as objects of the program.

class Missing {
  constructor() {
    throw new Error(`libmq/nsq has no ${new.target.name}: use Reader and Writer, whose connections are the library's own`)
  }
}

/** nsqjs's connection of a reader. */
class NSQDConnection extends Missing {}

/** nsqjs's connection of a writer. */
class WriterNSQDConnection extends Missing {}

module.exports = {NSQDConnection, WriterNSQDConnection}
