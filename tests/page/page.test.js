// The page in a real browser, with a made-up fleet behind it.
'use strict'

const assert = require('node:assert/strict')
const {after, before, describe, test} = require('node:test')
const {missing, open, overhang, sees, serious, until, visit} = require('./browser.js')
const {serve, NODES} = require('./mock.js')

/** Every place, its heading, and words that only its data brings. */
const PLACES = [
  [
    '#/',
    'Overview',
    [
      'orders / email has 1,200 messages and no consumer',
      '6 min 20 s',
      'as the depth changes: +40/s',
      'of 3 nodes, 2 lookup servers',
      'NOK - disk is full',
    ],
  ],
  ['#/topics', 'Topics', ['12 topics', 'no consumers', '<img src=x onerror=alert(1)>']],
  ['#/topics/orders', 'orders', ['118 MiB', 'audit#ephemeral', 'written (outlives a kill)', 'worker-1.example']],
  [
    '#/topics/orders/billing',
    'billing',
    ['all 4 consumers hold as many messages as they may', 'V2, TLS1.3, snappy, as billing', 'all used', '99%: 12 ms'],
  ],
  ['#/nodes', 'Nodes', ['full in 2 h 1 min', '1 damaged topic', 'No: it lacks broker', 'nsqd 1.3.0', 'older']],
  [
    `#/nodes/${encodeURIComponent(NODES[0])}`,
    NODES[0],
    ['10.0.0.7, TCP port 4150, HTTP port 4151', '90 MiB of 256 MiB', '12 topics'],
  ],
  ['#/lookup', 'Lookup', ['old', 'connection refused']],
  ['#/peek/orders', 'Peek at orders', ['20 messages', '<script>alert(1)</script>', 'abc-0', '000000 00 01 02 ff fe 41']],
]

describe('the page', {skip: missing}, () => {
  let server
  let fleet
  let browser
  let page
  before(async () => {
    browser = await open()
    ;({page} = browser)
  })
  after(() => browser?.close())
  const begin = async (options) => {
    // A page that is left open would go on asking the server of the test before.
    await page.goto('about:blank')
    await server?.close()
    server = await serve(options)
    ;({fleet} = server)
    browser.complaints.length = 0
    browser.requests.length = 0
  }
  after(() => server?.close())

  for (const [place, heading, words] of PLACES) {
    test(`${heading} shows its data and nothing is wrong with it`, async () => {
      await begin()
      await visit(page, server.address, place, heading)
      for (const text of words) await sees(page, text)
      assert.deepEqual(await serious(page), [])
      assert.deepEqual(browser.complaints, [])
      const foreign = browser.requests.filter((url) => !url.startsWith(server.address) && !url.startsWith('data:'))
      assert.deepEqual(foreign, [])
    })
  }

  test('every place fits a phone and a dark scheme', async () => {
    await begin()
    const phone = await open({width: 360, height: 740, colorScheme: 'dark'})
    try {
      for (const [place, heading, [text]] of PLACES) {
        await visit(phone.page, server.address, place, heading)
        await sees(phone.page, text)
        assert.ok((await overhang(phone.page)) <= 0, `${place} is ${await overhang(phone.page)} px too wide`)
        assert.deepEqual(await serious(phone.page), [], place)
      }
      const ground = await phone.page.evaluate(() => getComputedStyle(document.body).backgroundColor)
      assert.equal(ground, 'rgb(19, 21, 23)')
    } finally {
      await phone.close()
    }
  })

  test('names and bodies that are markup are text', async () => {
    await begin()
    await visit(page, server.address, '#/peek/orders', 'Peek at orders')
    await sees(page, '<script>alert(1)</script>')
    await visit(
      page,
      server.address,
      `#/topics/${encodeURIComponent('<img src=x onerror=alert(1)>')}`,
      '<img src=x onerror=alert(1)>',
    )
    assert.equal(await page.locator('main img, main script').count(), 0)
    await visit(page, server.address, '#/topics/orders/billing', 'billing')
    await sees(page, 'as billing')
    assert.equal(await page.locator('a[href^="javascript"]').count(), 0)
    assert.deepEqual(browser.complaints, [])
  })

  test('a calm fleet is said to be calm', async () => {
    await begin({gone: false})
    fleet.calm = true
    await visit(page, server.address, '#/', 'Overview')
    await sees(page, 'Nothing is wrong')
    await visit(page, server.address, '#/topics/orders/email', 'email')
    await sees(page, 'No trouble so far')
  })

  test('a broker that is gone is a warning, and the rest stays', async () => {
    await begin({gone: false})
    await visit(page, server.address, '#/topics', 'Topics')
    await sees(page, '12 topics')
    assert.equal(await page.getByText('does not answer').count(), 0)
    fleet.gone = true
    await sees(page, `node ${NODES[2]} does not answer: connection refused`)
    await sees(page, '12 topics')
    await visit(page, server.address, `#/nodes/${encodeURIComponent(NODES[2])}`, NODES[2])
    await sees(page, 'Look whether the broker runs')
    await sees(page, 'Address used here')
    assert.equal(await page.locator('.plot').count(), 0)
  })

  test('a fleet that is read for the first time is shown as a part, and then whole', async () => {
    await begin({gone: false})
    fleet.calm = true
    fleet.reading = {done: 40, of: 200}
    await visit(page, server.address, '#/', 'Overview')
    await sees(page, '40 of 200 nodes have answered so far')
    await sees(page, 'Nothing is wrong with the nodes that have answered so far.')
    assert.deepEqual(await serious(page), [])
    await visit(page, server.address, '#/topics', 'Topics')
    await sees(page, '12 topics')
    await sees(page, '40 of 200 nodes')
    // What a part of the nodes says about one topic would be wrong.
    await visit(page, server.address, '#/topics/orders', 'orders')
    await sees(page, '40 of 200 nodes')
    assert.equal(await page.getByRole('button', {name: 'Delete…'}).count(), 0)
    fleet.reading = null
    await page.getByRole('button', {name: 'Delete…'}).waitFor()
    assert.equal(await page.getByText('40 of 200 nodes').count(), 0)
    await visit(page, server.address, '#/', 'Overview')
    await sees(page, 'Nothing is wrong: no topic')
  })

  test('numbers of different ages on one page say how old they are', async () => {
    await begin()
    fleet.age = 8
    await visit(page, server.address, '#/topics/orders/billing', 'billing')
    const clients = page.locator('section[aria-label=Clients] .part-head')
    await until(async () => /4 clients, as of \d\d:\d\d:\d\d/.test(await clients.innerText()), 'the age of the clients')
    const history = page.locator('section[aria-label=History] .part-head')
    await until(async () => /as of \d\d:\d\d:\d\d/.test(await history.innerText()), 'the age of the charts')
    fleet.age = 0
    await until(async () => (await clients.innerText()).trim().endsWith('4 clients'), 'all are of the same age')
  })

  test('what is wrong with one channel stands together, on a phone behind the worst of it', async () => {
    await begin()
    await visit(page, server.address, '#/', 'Overview')
    const first = page.locator('.troubles > li').first()
    await first.getByText('9.0 messages/s are requeued').waitFor()
    assert.equal(await first.locator('details').count(), 0)
    await page.setViewportSize({width: 360, height: 740})
    await first.getByText('and 1 more finding about it').waitFor()
    assert.equal(await first.getByText('9.0 messages/s are requeued').isVisible(), false)
    await first.locator('summary').press('Enter')
    await first.getByText('9.0 messages/s are requeued').waitFor()
    assert.deepEqual(await serious(page), [])
    await page.setViewportSize({width: 1280, height: 900})
  })

  test('a badge says what it means to a pointer and to a screen reader', async () => {
    await begin()
    await visit(page, server.address, '#/topics/orders', 'orders')
    const badge = page.locator('.tag', {hasText: 'pinned'})
    const words = 'All consumers hold as many messages as they may. Orders / billing: all 4 consumers'
    assert.ok((await badge.getAttribute('title')).startsWith(words))
    assert.ok((await badge.textContent()).startsWith(`pinned: ${words}`))
  })

  test('what came of an action is gone with the next page, and stays over the page it leads to', async () => {
    await begin()
    await visit(page, server.address, '#/topics/orders', 'orders')
    // Its own time, 8 s, never ends here.
    await page.evaluate(() => {
      const own = setTimeout
      globalThis.setTimeout = (run, after, ...rest) => (after === 8_000 ? 0 : own(run, after, ...rest))
    })
    await page.getByRole('button', {name: 'Pause', exact: true}).click()
    const toast = page.locator('.toast')
    await sees(page, 'Paused topic orders.')
    await page.getByRole('link', {name: 'Nodes', exact: true}).click()
    await page.getByRole('heading', {level: 1, name: 'Nodes'}).waitFor()
    await until(async () => (await toast.textContent()) === '', 'nothing is said any more')
    await visit(page, server.address, '#/topics/clicks', 'clicks')
    await page.getByRole('button', {name: 'Delete…'}).click()
    await page.getByRole('textbox', {name: /^Type/}).fill('clicks')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', {level: 1, name: 'Topics'}).waitFor()
    await sees(page, 'Deleted topic clicks.')
  })

  test('a server that is gone leaves what is shown, and comes back by itself', async () => {
    await begin()
    await visit(page, server.address, '#/topics', 'Topics')
    await sees(page, '12 topics')
    fleet.dead = true
    await sees(page, 'The server does not answer.')
    await sees(page, 'What is shown is of')
    await sees(page, '12 topics')
    fleet.dead = false
    await page.getByText('The server does not answer.').waitFor({state: 'detached'})
  })

  test('what does not exist is said, and an answer that cannot be drawn too', async () => {
    await begin()
    await visit(page, server.address, '#/topics/nothing', 'nothing')
    await sees(page, 'There is no such topic.')
    await visit(page, server.address, '#/topics/orders/nothing', 'nothing')
    await sees(page, 'There is no such channel.')
    await visit(page, server.address, '#/somewhere', 'No such page')
    fleet.get = () => [200, {at: 1, warnings: [], nodes: 'no list', findings: [], lookups: []}]
    await page.goto(`${server.address}#/nodes`)
    await sees(page, 'This page could not be drawn')
  })

  test('ten thousand topics are searched, sorted and paged by the server, and the address can be shared', async () => {
    await begin({topics: 10_000})
    await visit(page, server.address, '#/topics', 'Topics')
    await sees(page, '10,000 topics, page 1 of 200')
    assert.equal(await page.locator('tbody tr').count(), 50)
    const search = page.getByRole('searchbox', {name: 'Search topics by name'})
    await search.pressSequentially('0042', {delay: 20})
    await sees(page, '11 of 10,000 topics')
    assert.equal(await search.inputValue(), '0042')
    await page.getByRole('button', {name: 'Depth'}).click()
    await until(
      () => page.evaluate(() => location.hash === '#/topics?search=0042&sort=depth&order=desc'),
      'search and order are in the address',
    )
    await page.locator('th[aria-sort=descending]', {hasText: 'Depth'}).waitFor()
    const shared = page.url()
    await page.goto('about:blank')
    await page.goto(shared)
    await sees(page, '11 of 10,000 topics')
    assert.equal(await search.inputValue(), '0042')
    await search.fill('')
    await page.getByRole('button', {name: 'Next'}).click()
    await sees(page, 'page 2 of 200')
  })

  test('nothing is fetched while nobody looks', async () => {
    await begin()
    await visit(page, server.address, '#/', 'Overview')
    await sees(page, 'Busiest topics')
    // A headless browser never hides its page, so the page is given what it asks.
    const hide = (hidden) =>
      page.evaluate((value) => {
        Object.defineProperty(document, 'hidden', {value, configurable: true})
        document.dispatchEvent(new Event('visibilitychange'))
      }, hidden)
    // An answer that comes while the page is hidden starts no other request.
    let release
    fleet.held = new Promise((resolve) => {
      release = resolve
    })
    const begun = fleet.requests
    await until(() => fleet.requests > begun, 'a request whose answer is held back')
    await hide(true)
    release()
    fleet.held = null
    await until(async () => {
      const before = fleet.requests
      await new Promise((resolve) => setTimeout(resolve, 2_500))
      return fleet.requests === before
    }, 'no request for longer than two polls are apart')
    const before = fleet.requests
    await hide(false)
    await until(() => fleet.requests > before, 'a request once somebody looks')
  })

  test('emptying and deleting name what is lost and need the name typed', async () => {
    await begin()
    for (const [place, button, verb, name, action] of [
      [
        '#/topics/orders/billing',
        'Empty…',
        'Empty the channel',
        'billing',
        {action: 'empty_channel', topic: 'orders', channel: 'billing'},
      ],
      [
        '#/topics/orders/billing',
        'Delete…',
        'Delete the channel',
        'billing',
        {action: 'delete_channel', topic: 'orders', channel: 'billing'},
      ],
      ['#/topics/orders', 'Empty…', 'Empty the topic', 'orders', {action: 'empty_topic', topic: 'orders'}],
      [
        '#/topics/orders',
        'Tombstone orders on 10.0.0.8:4151',
        'Take it off',
        'orders',
        {action: 'tombstone', topic: 'orders', node: NODES[1]},
      ],
      ['#/lookup', 'Delete topic old', 'Delete the topic', 'old', {action: 'delete_topic', topic: 'old'}],
      [
        `#/nodes/${encodeURIComponent(NODES[0])}`,
        'Drain and stop…',
        'Drain and stop',
        NODES[0],
        {action: 'drain', node: NODES[0]},
      ],
      ['#/topics/orders', 'Delete…', 'Delete the topic', 'orders', {action: 'delete_topic', topic: 'orders'}],
    ]) {
      await page.goto(server.address + place)
      await page.getByRole('button', {name: button, exact: true}).click()
      const dialog = page.getByRole('dialog')
      await dialog.waitFor()
      assert.match(await dialog.innerText(), /1,200 messages|17 messages|2 channels/)
      assert.deepEqual(await serious(page), [])
      const go = dialog.getByRole('button', {name: verb})
      assert.ok(await go.isDisabled())
      await dialog.getByRole('textbox', {name: /^Type/}).fill(`${name} `)
      assert.ok(await go.isDisabled())
      await dialog.getByRole('textbox', {name: /^Type/}).fill(name)
      await page.keyboard.press('Enter')
      await dialog.waitFor({state: 'detached'})
      assert.deepEqual(fleet.actions.at(-1), action)
    }
    await visit(page, server.address, '#/topics', 'Topics')
    await sees(page, '11 topics')
  })

  test('an action that fails says so and keeps its dialog; Escape closes it', async () => {
    await begin()
    fleet.fails = [
      502,
      {message: 'UPSTREAM_ERROR', detail: 'no broker did it', results: [{node: NODES[0], ok: false, error: 'timed out'}]},
    ]
    await visit(page, server.address, '#/topics/orders/billing', 'billing')
    await page.getByRole('button', {name: 'Empty…'}).click()
    await page.getByRole('textbox', {name: /^Type/}).fill('billing')
    await page.getByRole('button', {name: 'Empty the channel'}).click()
    await sees(page, `no broker did it ${NODES[0]}: timed out`)
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({state: 'detached'})
    await page.getByRole('button', {name: 'Pause'}).click()
    await sees(page, 'Failed: no broker did it')
    fleet.fails = [200, {message: `${NODES[1]}: timed out`, results: []}]
    await page.getByRole('button', {name: 'Pause'}).click()
    await sees(page, `Paused channel billing in part. ${NODES[1]}: timed out`)
  })

  test('pausing shows at once, and is undone', async () => {
    await begin()
    for (const [place, what] of [
      ['#/topics/orders', 'topic'],
      ['#/topics/orders/email', 'channel'],
    ]) {
      await page.goto(server.address + place)
      await page.getByRole('button', {name: 'Pause', exact: true}).click()
      await page.locator('.head .tag', {hasText: 'paused'}).waitFor()
      await page.getByRole('button', {name: 'Unpause', exact: true}).click()
      await page.locator('.head .tag', {hasText: 'paused'}).waitFor({state: 'detached'})
      assert.deepEqual(
        fleet.actions.splice(0).map(({action}) => action),
        [`pause_${what}`, `unpause_${what}`],
      )
    }
  })

  test('topics and channels are created, with names that are ones', async () => {
    await begin()
    await visit(page, server.address, '#/topics', 'Topics')
    await page.getByRole('button', {name: 'Create a topic'}).click()
    const name = page.getByRole('textbox', {name: 'Name of the topic'})
    await name.fill('no name')
    await page.getByRole('button', {name: 'Create', exact: true}).click()
    await sees(page, '"no name" is no name')
    await name.fill('fresh#ephemeral')
    await page.getByRole('button', {name: 'Create', exact: true}).click()
    await page.getByRole('heading', {level: 1, name: 'fresh#ephemeral'}).waitFor()
    await page.getByRole('button', {name: 'Create a channel'}).click()
    await page.getByRole('textbox', {name: 'Name of the channel'}).fill('c')
    await page.keyboard.press('Enter')
    await sees(page, 'Created channel c of fresh#ephemeral.')
    assert.deepEqual(fleet.actions, [
      {action: 'create_topic', topic: 'fresh#ephemeral'},
      {action: 'create_channel', topic: 'fresh#ephemeral', channel: 'c'},
    ])
  })

  test('a test message is published with headers and a delay', async () => {
    await begin()
    await visit(page, server.address, '#/topics/orders', 'orders')
    await page.getByRole('button', {name: 'Publish…'}).click()
    assert.deepEqual(await serious(page), [])
    await page.getByRole('button', {name: 'Publish', exact: true}).click()
    await sees(page, 'The message is empty')
    await page.getByLabel('Body, as text').fill('hello')
    await page.getByLabel('Headers, one a line: name: value').fill('trace: a:b\n\nkey: v')
    await page.getByLabel('Deliver after, in seconds').fill('1.5')
    await page.getByRole('dialog').getByLabel('Node').selectOption(NODES[1])
    await page.getByRole('button', {name: 'Publish', exact: true}).click()
    await sees(page, 'Published a message to orders.')
    assert.deepEqual(fleet.actions, [
      {action: 'publish', topic: 'orders', body: 'hello', node: NODES[1], headers: {trace: 'a:b', key: 'v'}, defer_ms: 1500},
    ])
  })

  test('settings: only what was changed is sent', async () => {
    await begin()
    await visit(page, server.address, '#/topics/orders', 'orders')
    await page.getByRole('button', {name: 'Settings…'}).click()
    assert.deepEqual(await serious(page), [])
    await page.getByLabel('Messages at most').fill('ten')
    await page.getByRole('button', {name: 'Change'}).click()
    await sees(page, 'Messages at most: "ten" is no whole number')
    await page.getByLabel('Messages at most').fill('1000')
    await page.getByLabel('Age at most').fill('0.5')
    await page.getByLabel('Acknowledged when').selectOption('sync')
    await page.getByRole('button', {name: 'Change'}).click()
    await sees(page, 'Changed the settings of topic orders.')
    assert.deepEqual(fleet.actions, [
      {action: 'configure_topic', topic: 'orders', settings: {durability: 'sync', max_messages: 1000, max_age: 500}},
    ])
  })

  test('a channel: its limit, where its dead letters go and how many did; only what was changed is sent', async () => {
    await begin()
    await visit(page, server.address, '#/topics/orders/billing', 'billing')
    const settings = page.getByRole('region', {name: 'Settings'})
    await settings.getByText('7 messages since the start').waitFor()
    await settings.getByText('1 s for each delivery it had').waitFor()
    await page.getByRole('button', {name: 'Settings…'}).click()
    assert.deepEqual(await serious(page), [])
    const limit = page.getByLabel('Deliveries at most')
    assert.equal(await limit.inputValue(), '5')
    // What was changed and taken back is as it was.
    await limit.fill('9')
    await limit.fill('5')
    await page.getByRole('button', {name: 'Change'}).click()
    await sees(page, 'Nothing is changed yet.')
    await limit.fill('9')
    await page.getByRole('button', {name: 'Change'}).click()
    await sees(page, 'Changed the settings of channel billing.')
    await page.getByRole('button', {name: 'Settings…'}).click()
    await limit.fill('0')
    await page.getByLabel('Dead letter topic').fill('')
    await page.getByLabel('Waits if its consumer is lost').fill('0.25')
    await page.getByRole('button', {name: 'Change'}).click()
    await until(() => fleet.actions.length === 2, 'both changes')
    const place = {action: 'configure_channel', topic: 'orders', channel: 'billing'}
    assert.deepEqual(fleet.actions, [
      {...place, settings: {max_attempts: 9}},
      {...place, settings: {max_attempts: 0, dead_letter_topic: null, redelivery_delay: 250}},
    ])
    await settings.getByRole('link', {name: 'clicks'}).click()
    await page.getByRole('heading', {level: 1, name: 'clicks'}).waitFor()
  })

  test('messages are shown as text, JSON or hex, and searched', async () => {
    await begin()
    await visit(page, server.address, '#/peek/orders', 'Peek at orders')
    await page.getByRole('combobox', {name: 'Messages of'}).selectOption('billing')
    await sees(page, 'in flight')
    await page.getByRole('button', {name: 'JSON'}).click()
    await sees(page, '"b": [')
    await page.getByRole('button', {name: 'Hex'}).click()
    await sees(page, '000000 7b 22 61 22 3a 31')
    await page.getByRole('searchbox', {name: 'Search in what is shown'}).fill('ABC-8')
    await sees(page, '1 of 20 messages with "ABC-8"')
    assert.equal(await page.locator('mark').innerText(), 'abc-8')
    await page.getByRole('searchbox', {name: 'Search in what is shown'}).fill('')
    await page.getByRole('button', {name: 'Next'}).first().click()
    await until(() => page.evaluate(() => location.hash.includes('from=0a1b2c3d4e5f6071')), 'the next page is in the address')
    await page.getByRole('button', {name: 'From the oldest'}).first().click()
    await page.getByRole('button', {name: 'From the oldest'}).first().waitFor({state: 'detached'})
  })

  test('charts draw, and say in words what they show', async () => {
    await begin()
    await visit(page, server.address, '#/topics/orders', 'orders')
    await page.getByRole('img', {name: /^Messages a second. published: now .*at most/}).waitFor()
    const drawn = () =>
      page
        .locator('.plot canvas')
        .first()
        .evaluate((canvas) => {
          const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
          return data.some((value) => value !== 0)
        })
    await until(drawn, 'something is drawn')
    await page.getByRole('button', {name: 'a day'}).click()
    await until(() => page.evaluate(() => location.hash === '#/topics/orders?span=1d'), 'the span is in the address')
    await page
      .locator('.plot .u-over')
      .last()
      .hover({position: {x: 40, y: 40}})
    const depth = page.locator('.chart').last().locator('.key b').first()
    await until(
      async () => Number((await depth.innerText()).replaceAll(',', '')) < 14_000,
      'the key shows the value under the pointer',
    )
    assert.deepEqual(browser.complaints, [])
  })

  test('the keyboard alone is enough', async () => {
    await begin()
    await visit(page, server.address, '#/', 'Overview')
    await sees(page, 'Busiest topics')
    await page.keyboard.press('Tab')
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content')
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    const focused = await page.evaluate(() => ({
      text: document.activeElement.textContent,
      outline: getComputedStyle(document.activeElement).outlineStyle,
    }))
    assert.match(focused.text, /no consumer/)
    assert.equal(focused.outline, 'solid')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', {level: 1, name: 'email'}).waitFor()
    assert.equal(await page.evaluate(() => document.activeElement.tagName), 'MAIN')
  })

  test('a list is searched, sorted and paged by the keyboard, which keeps its place', async () => {
    await begin({topics: 120})
    await visit(page, server.address, '#/topics', 'Topics')
    await sees(page, '120 topics, page 1 of 3')
    const focused = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.type)
    await page.getByRole('searchbox').focus()
    const order = []
    for (let at = 0; at < 3; at += 1) {
      await page.keyboard.press('Tab')
      order.push(await focused())
    }
    assert.deepEqual(order, ['50100200', 'Previous', 'Next'], 'before the rows')
    await page.keyboard.press('Enter')
    await sees(page, '120 topics, page 2 of 3')
    await page.keyboard.press('Enter')
    await sees(page, '120 topics, page 3 of 3')
    await page.keyboard.press('Enter')
    assert.equal(await focused(), 'Next', 'at the end, too')
    await visit(page, server.address, '#/nodes', 'Nodes')
    await page.getByRole('button', {name: 'Node', exact: true}).press('Enter')
    await until(() => page.evaluate(() => location.hash === '#/nodes?sort=name&order=asc'), 'the order is in the address')
    await page.getByRole('searchbox').fill('0.8')
    await sees(page, '1 of 3 brokers')
  })

  test('a token opens the page, a wrong one does not, and it is kept nowhere', async () => {
    await begin({login: 'needed'})
    await visit(page, server.address, '#/topics', 'Log in')
    assert.deepEqual(await serious(page), [])
    await page.getByLabel('Token').fill('wrong')
    await page.keyboard.press('Enter')
    await sees(page, 'No such token.')
    await page.getByLabel('Token').fill('secret')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', {level: 1, name: 'Topics'}).waitFor()
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, ''])
    assert.ok(!browser.requests.some((url) => url.includes('secret')))
    // A login that ends while the page is open asks again, and goes on where it was.
    fleet.login = 'needed'
    await page.getByRole('heading', {level: 1, name: 'Log in'}).waitFor()
    await page.getByLabel('Token').fill('secret')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', {level: 1, name: 'Topics'}).waitFor()
    await page.getByRole('button', {name: 'Log out'}).click()
    await page.getByRole('heading', {level: 1, name: 'Log in'}).waitFor()
  })

  test('who may only read is offered no action', async () => {
    await begin()
    fleet.readOnly = true
    await visit(page, server.address, '#/topics/orders', 'orders')
    await sees(page, 'read only')
    await sees(page, '118 MiB')
    assert.deepEqual(await page.getByRole('button', {name: /…$|Pause|Create/}).count(), 0)
  })
})
