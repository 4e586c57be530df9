import libmq from './index.js'

export const { connect, run, Client, Subscription, Message, Batch, MqError, AbortError } = libmq
