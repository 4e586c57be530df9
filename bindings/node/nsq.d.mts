export * from './nsq.js'
import * as nsq from './nsq.js'
export default nsq
