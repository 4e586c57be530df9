import nsq from './nsq.js'

export const { Message, Reader, Writer, NSQDConnection, WriterNSQDConnection } = nsq
export default nsq
