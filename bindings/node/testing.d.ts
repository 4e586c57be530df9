import { Client, ConnectOptions } from './index.js'

/** A client of a broker in memory, of its own, whose time stands still until a test moves it on. */
export class TestClient extends Client {
  /**
   * Moves time on: deferred messages come due, and messages in flight time out, before the promise is fulfilled. Nothing
   * sleeps.
   */
  advance(ms: number): Promise<void>
}

/**
 * Opens a broker for one test.
 *
 * ```js
 * import { connect } from 'libmq/testing'
 *
 * const client = await connect()
 * const billing = client.subscribe('orders', 'billing')
 * await client.publish('orders', 'later', { delay: 3_600_000 })
 * await client.advance(3_600_000)
 * const { value: message } = await billing.next()
 * ```
 */
export function connect(options?: ConnectOptions): Promise<TestClient>
