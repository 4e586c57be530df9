'use strict'
// The page in a real browser, as real brokers and a lookup server serve it.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const {after, before, describe, test} = require('node:test')
const {missing, open, overhang, sees, serious, until, visit} = require('./browser.js')
const {Consumer, Server, startFleet} = require('./fleet.js')

const skip = missing || (process.env.MQ_BIN ? false : 'MQ_BIN does not name the program mq')

describe('the page of a fleet', {skip}, () => {
  let fleet
  let browser
  let page
  let address
  let alone
  const consumers = []
  before(async () => {
    fleet = await startFleet(3)
    address = `http://${fleet.lookup.http}/admin/`
    const named = fleet.brokers.flatMap(({http}) => ['--nsqd-http-address', http])
    alone = await Server.start(['admin', '--http-address', '127.0.0.1:0', ...named], ['http'])
    for (const broker of fleet.brokers.slice(0, 2)) {
      await broker.ask('POST', '/topic/create?topic=orders')
      for (const channel of ['billing', 'email']) await broker.ask('POST', `/channel/create?topic=orders&channel=${channel}`)
      for (let at = 0; at < 30; at += 1) await broker.ask('POST', '/pub?topic=orders', `{"order":${at}}`)
      consumers.push(new Consumer(broker, 'orders', 'billing'))
    }
    await until(() => consumers.every(({received}) => received === 30), 'all is consumed')
    browser = await open()
    page = browser.page
  })
  after(async () => {
    for (const consumer of consumers) consumer.close()
    await browser?.close()
    await alone?.stop()
    await fleet?.stop()
  })

  const places = () => {
    const [{http: first}] = fleet.brokers
    return [
      ['#/', 'Overview', ['orders / email has 60 messages and no consumer', first]],
      ['#/topics', 'Topics', ['1 topic', 'no consumers']],
      ['#/topics/orders', 'orders', ['billing', 'email', first, 'written (outlives a kill)']],
      ['#/topics/orders/email', 'email', ['orders / email has 60 messages and no consumer', 'No client is connected.']],
      ['#/topics/orders/billing', 'billing', ['worker.example', 'page-test/1', '0 / 25']],
      ['#/nodes', 'Nodes', [first, '3 brokers']],
      [`#/nodes/${encodeURIComponent(first)}`, first, ['Address for clients', '1 topic']],
      ['#/lookup', 'Lookup', [fleet.lookup.http, 'None: every registered topic has a broker.']],
      ['#/peek/orders', 'Peek at orders', ['{"order":0}', '20 messages']],
    ]
  }

  test('every page shows what there is, and nothing is wrong with it', async () => {
    for (const [place, heading, words] of places()) {
      await visit(page, address, place, heading)
      for (const text of words) await sees(page, text)
      assert.deepEqual(await serious(page), [], place)
      assert.equal(await page.locator('main .notice').count(), 0, `${place}: ${await page.locator('main').innerText()}`)
    }
    assert.deepEqual(browser.complaints, [])
    const foreign = browser.requests.filter((url) => !url.startsWith(address) && !url.startsWith('data:'))
    assert.deepEqual(foreign, [])
    await page.setViewportSize({width: 360, height: 740})
    for (const [place, heading, [text]] of places()) {
      await visit(page, address, place, heading)
      await sees(page, text)
      assert.ok((await overhang(page)) <= 0, place)
    }
    await page.setViewportSize({width: 1280, height: 900})
  })

  test('a broker serves the page of its own', async () => {
    const [broker] = fleet.brokers
    const own = `http://${broker.http}/admin/`
    await visit(page, own, '#/', 'Overview')
    await sees(page, 'orders / email has 30 messages and no consumer')
    await visit(page, own, '#/nodes', 'Nodes')
    await sees(page, '1 broker')
    const policy = (await page.request.get(own)).headers()['content-security-policy']
    assert.match(policy, /^default-src 'none'; script-src 'self' 'sha256-[^']*'; style-src 'self';.*frame-ancestors 'none'$/)
  })

  test('a topic is created, published to, peeked at, paused, limited, emptied and deleted', async () => {
    const press = (name) => page.getByRole('button', {name, exact: true}).click()
    const topics = async () =>
      (await Promise.all(fleet.brokers.map((broker) => broker.ask('GET', '/stats?format=json&topic=fresh')))).flatMap(
        ({topics}) => (topics ?? []).filter(Boolean),
      )
    const total = async (field) => (await topics()).reduce((sum, topic) => sum + topic[field], 0)
    // Brokers that only a lookup server reports would get the topic with its first publish.
    const address = `http://${alone.http}/`
    await visit(page, address, '#/topics', 'Topics')
    await press('Create a topic')
    await page.getByRole('textbox', {name: 'Name of the topic'}).fill('fresh')
    await press('Create')
    await page.getByRole('heading', {level: 1, name: 'fresh'}).waitFor()
    await until(async () => (await topics()).length === 3, 'all brokers have the topic')
    await press('Create a channel')
    await page.getByRole('textbox', {name: 'Name of the channel'}).fill('c')
    await press('Create')
    await page.getByRole('link', {name: 'c', exact: true}).waitFor()
    await press('Publish…')
    await page.getByLabel('Body, as text').fill('{"hello":"world"}')
    await page.getByLabel('Headers, one a line: name: value').fill('trace: abc')
    await press('Publish')
    await sees(page, 'Published a message to fresh.')
    await until(async () => (await total('message_count')) === 1, 'one message was published')
    await page.getByRole('link', {name: 'Peek', exact: true}).click()
    await sees(page, '{"hello":"world"}')
    await sees(page, 'abc')
    await visit(page, address, '#/topics/fresh', 'fresh')
    await press('Pause')
    await until(async () => (await topics()).some(({paused}) => paused), 'the topic is paused')
    await press('Unpause')
    await until(async () => !(await topics()).some(({paused}) => paused), 'the topic goes on')
    await press('Settings…')
    await page.getByLabel('Messages at most').fill('1000')
    await press('Change')
    await sees(page, 'Changed the settings of topic fresh.')
    assert.equal((await fleet.brokers[0].ask('GET', '/topic/config?topic=fresh')).max_messages, 1000)
    await visit(page, address, '#/topics/fresh/c', 'c')
    await press('Settings…')
    await page.getByLabel('Deliveries at most').fill('1')
    await press('Change')
    await page.getByRole('dialog').getByRole('alert').waitFor()
    await page.getByLabel('Dead letter topic').fill('fresh.dead')
    await press('Change')
    await sees(page, 'Changed the settings of channel c.')
    for (const broker of fleet.brokers) {
      const {max_attempts: most, dead_letter_topic: dead} = await broker.ask('GET', '/channel/config?topic=fresh&channel=c')
      assert.deepEqual([most, dead], [1, 'fresh.dead'])
    }
    await page.getByRole('link', {name: 'fresh.dead'}).waitFor()
    await press('Empty…')
    await sees(page, '1 message that wait')
    await page.getByRole('textbox', {name: /^Type/}).fill('c')
    await press('Empty the channel')
    await sees(page, 'Emptied channel c.')
    await until(
      async () => (await topics()).every(({channels}) => channels.every(({depth}) => depth === 0)),
      'the channel is empty',
    )
    await press('Delete…')
    await page.getByRole('textbox', {name: /^Type/}).fill('c')
    await press('Delete the channel')
    await page.getByRole('heading', {level: 1, name: 'fresh'}).waitFor()
    await until(async () => (await topics()).every(({channels}) => channels.length === 0), 'the channel is gone')
    await press('Delete…')
    await page.getByRole('textbox', {name: /^Type/}).fill('fresh')
    await press('Delete the topic')
    await page.getByRole('heading', {level: 1, name: 'Topics'}).waitFor()
    await until(async () => (await topics()).length === 0, 'the topic is gone')
    // It stays: what is in it may be all that is left of a message.
    for (const broker of fleet.brokers) await broker.ask('POST', '/topic/delete?topic=fresh.dead')
    await fleet.lookup.ask('POST', '/topic/delete?topic=fresh.dead')
  })

  test('a message that a consumer holds is delivered again, and dropped', async () => {
    const [broker] = fleet.brokers
    await broker.ask('POST', '/topic/create?topic=stuck')
    const holder = new Consumer(broker, 'stuck', 'c', {credit: 1, holds: true})
    await broker.ask('POST', '/pub?topic=stuck', 'poison')
    await until(() => holder.received === 1, 'the consumer holds it')
    const channel = async () => (await broker.ask('GET', '/stats?format=json&topic=stuck')).topics[0].channels[0]
    await visit(page, address, '#/topics/stuck/c', 'c')
    await page.getByRole('link', {name: 'Peek', exact: true}).click()
    await sees(page, 'in flight')
    await page.getByRole('button', {name: /^Deliver message [0-9a-f]{16} again$/}).click()
    await sees(page, 'whose answer will come too late')
    assert.deepEqual(await serious(page), [])
    await page.getByRole('button', {name: 'Deliver again', exact: true}).click()
    await until(() => holder.received === 2, 'it comes again')
    await sees(page, '2 attempts')
    await page.getByRole('button', {name: /^Drop message [0-9a-f]{16}$/}).click()
    await sees(page, 'other channels of stuck keep it')
    await page.getByRole('button', {name: 'Drop the message'}).click()
    await sees(page, 'No message from here on.')
    const {depth, in_flight_count: held, requeue_count: requeued} = await channel()
    assert.deepEqual([depth, held, requeued], [0, 0, 1])
    holder.close()
    await broker.ask('POST', '/topic/delete?topic=stuck')
    await fleet.lookup.ask('POST', '/topic/delete?topic=stuck')
  })

  test('a topic that only a lookup server knows is inactive, and deleted there', async () => {
    await visit(page, address, '#/lookup', 'Lookup')
    await page.getByRole('button', {name: 'Delete topic fresh'}).click()
    await sees(page, 'the registration of the topic')
    await page.getByRole('textbox', {name: /^Type/}).fill('fresh')
    await page.getByRole('button', {name: 'Delete the topic'}).click()
    await sees(page, 'None: every registered topic has a broker.')
    assert.ok(!(await fleet.lookup.ask('GET', '/topics')).topics.includes('fresh'))
  })

  test('a topic is taken off a node, and the node is drained', async () => {
    const [, , third] = fleet.brokers
    await third.ask('POST', '/topic/create?topic=spare')
    await visit(page, address, '#/topics/spare', 'spare')
    await page.getByRole('button', {name: `Tombstone spare on ${third.http}`}).click()
    await page.getByRole('textbox', {name: /^Type/}).fill('spare')
    await page.getByRole('button', {name: 'Take it off'}).click()
    await sees(page, `Took topic spare off ${third.http}.`)
    const names = (await third.ask('GET', '/stats?format=json')).topics.map((topic) => topic.topic_name)
    assert.ok(!names.includes('spare'))
    await visit(page, `http://${alone.http}/`, `#/nodes/${encodeURIComponent(third.http)}`, third.http)
    await page.getByRole('button', {name: 'Drain and stop…'}).click()
    await page.getByRole('textbox', {name: /^Type/}).fill(third.http)
    await page.getByRole('button', {name: 'Drain and stop', exact: true}).click()
    await third.ended
    await page.locator('.head .tag', {hasText: 'does not answer'}).waitFor()
    await fleet.lookup.ask('POST', '/topic/delete?topic=spare')
  })

  test('a thousand topics are searched and paged', async () => {
    const [broker] = fleet.brokers
    const names = Array.from({length: 1000}, (_, at) => `many-${String(at).padStart(4, '0')}`)
    for (const name of names) await broker.ask('POST', `/topic/create?topic=${name}`)
    await visit(page, address, '#/topics', 'Topics')
    await sees(page, '1,001 topics, page 1 of 21')
    await page.getByRole('searchbox').pressSequentially('many-099')
    await sees(page, '10 of 1,001 topics')
    await page.getByRole('button', {name: 'Topic', exact: true}).click()
    await until(async () => (await page.locator('tbody th').first().innerText()) === 'many-0990', 'the first by name')
  })

  // Last: it takes a broker away.
  test('a broker that is gone is said, and the rest stays', async () => {
    const [, gone] = fleet.brokers
    const address = `http://${alone.http}/`
    await visit(page, address, '#/topics/orders/billing', 'billing')
    await sees(page, gone.http)
    await gone.stop('SIGKILL')
    await page.locator('main .notice', {hasText: gone.http}).waitFor()
    await sees(page, fleet.brokers[0].http)
    await visit(page, address, '#/', 'Overview')
    await sees(page, `${gone.http} can't be reached`)
    await sees(page, 'orders / email has 30 messages')
  })
})

describe('the page of a broker that asks for a token', {skip}, () => {
  test('it opens with a token, which scripts cannot read, and not with another', async (t) => {
    const folder = fs.mkdtempSync(path.join(require('node:os').tmpdir(), 'mq-page-'))
    const tokens = path.join(folder, 'tokens')
    fs.writeFileSync(tokens, 'right-token\n', {mode: 0o600})
    const flags = ['-tcp-address', '127.0.0.1:0', '-http-address', '127.0.0.1:0', '-https-address=', '-grpc-address=']
    const broker = await Server.start(
      ['serve', ...flags, '-data-path', path.join(folder, 'data'), '-http-auth-token-file', tokens],
      ['tcp', 'http'],
    )
    t.after(async () => {
      await broker.stop()
      fs.rmSync(folder, {recursive: true, force: true})
    })
    const {page, requests, close} = await open()
    t.after(close)
    const address = `http://${broker.http}/admin/`
    await visit(page, address, '#/topics', 'Log in')
    await page.getByLabel('Token').fill('wrong-token')
    await page.keyboard.press('Enter')
    await sees(page, 'No such token.')
    await page.getByLabel('Token').fill('right-token')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', {level: 1, name: 'Topics'}).waitFor()
    await sees(page, '0 topics')
    const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie])
    assert.deepEqual(kept, [0, 0, ''])
    const [cookie] = await page.context().cookies(address)
    assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, 'Strict', '/admin/'])
    assert.ok(!cookie.value.includes('right-token'))
    assert.ok(!requests.some((url) => url.includes('token')))
    await page.getByRole('button', {name: 'Log out'}).click()
    await page.getByRole('heading', {level: 1, name: 'Log in'}).waitFor()
    assert.equal((await page.request.get(`${address}data/overview`)).status(), 401)
  })
})
