// A server of the page with a made-up fleet: states that real brokers take long to reach, and answers that are errors.
'use strict'

const crypto = require('node:crypto')
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')

const PAGE = path.join(__dirname, '../../admin/page')
const TYPES = {'.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8'}
const NODES = ['10.0.0.7:4151', '10.0.0.8:4151', '10.0.0.9:4151']

/** The page's policy, with the hash of its import map. */
function policy() {
  const page = fs.readFileSync(path.join(PAGE, 'index.html'), 'utf8')
  const map = page.split('<script type="importmap">')[1].split('</script>')[0]
  const hash = crypto.createHash('sha256').update(map).digest('base64')
  return (
    `default-src 'none'; script-src 'self' 'sha256-${hash}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; ` +
    "font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
  )
}

const now = () => Date.now() / 1000

function numbers(more = {}) {
  return {
    depth: 0,
    memory_depth: 0,
    disk_depth: 0,
    in_flight: 0,
    deferred: 0,
    messages: 50_000,
    requeued: 0,
    timed_out: 0,
    paused: false,
    published_rate: 0,
    finished_rate: 0,
    requeued_rate: 0,
    timed_out_rate: 0,
    growth: 0,
    drain_seconds: null,
    oldest_seconds: null,
    ...more,
  }
}

const BEHIND = numbers({
  depth: 1200,
  memory_depth: 200,
  disk_depth: 1000,
  in_flight: 25,
  deferred: 3,
  published_rate: 120.5,
  finished_rate: 80.1,
  requeued: 12,
  requeued_rate: 0.2,
  timed_out: 4,
  growth: 40.4,
  oldest_seconds: 380,
})

function findings() {
  return [
    {
      severity: 'critical',
      kind: 'no_consumers',
      topic: 'orders',
      channel: 'email',
      node: null,
      since: now() - 380,
      depth: 1200,
      text: 'orders / email has 1,200 messages and no consumer, for 6 minutes',
      help: 'start a consumer, or delete the channel if nobody needs it',
    },
    {
      severity: 'warning',
      kind: 'requeueing',
      topic: 'orders',
      channel: 'email',
      node: null,
      since: now() - 380,
      depth: 1200,
      text: 'orders / email: 9.0 messages/s are requeued, 1.0 are finished',
      help: 'consumers fail: look at their logs, and peek at the messages',
    },
    {
      severity: 'critical',
      kind: 'unreachable',
      topic: null,
      channel: null,
      node: NODES[2],
      since: now() - 42,
      text: `node ${NODES[2]} does not answer, for 42 seconds`,
      help: 'look whether the broker runs, and whether this machine can reach it',
    },
    {
      severity: 'warning',
      kind: 'pinned',
      topic: 'orders',
      channel: 'billing',
      node: null,
      since: now() - 1900,
      depth: 340,
      text: 'orders / billing: all 4 consumers hold as many messages as they may',
      help: 'raise max in flight, or add consumers',
    },
    {
      severity: 'notice',
      kind: 'version_drift',
      topic: null,
      channel: null,
      node: NODES[1],
      text: `node ${NODES[1]} runs 0.0.1, others 0.0.2`,
      help: 'update it',
    },
  ]
}

function client(at) {
  return {
    node: NODES[at % 2],
    client_id: `worker-${at}`,
    hostname: `worker-${at}.example`,
    remote_address: `10.1.0.${at}:5${at}000`,
    user_agent: 'libmq/0.0.2',
    protocol: 'V2',
    state: 3,
    ready: 25,
    in_flight: at === 1 ? 25 : at,
    messages: 1000 * at,
    finished: 990 * at,
    requeued: at,
    connected_at: now() - 5000 * at,
    sample_rate: at === 2 ? 10 : 0,
    compression: at === 1 ? 'snappy' : '',
    tls: at === 1 ? 'TLS1.3' : '',
    identity: at === 1 ? 'billing' : '',
    identity_url: at === 1 ? 'javascript:alert(1)' : '',
    zone: '',
    region: '',
    published: [{topic: 'orders', count: 3 * at}],
  }
}

const settings = {
  durability: 'flush',
  max_messages: 0,
  max_bytes: 0,
  max_age: 0,
  overflow: 'refuse',
  dedup_window: 120_000,
  dedup_max_ids: 100_000,
}
const channelSettings = {max_attempts: 5, dead_letter_topic: 'clicks', redelivery_delay: 1000}
const latency = [
  {quantile: 0.5, value: 1_200_000},
  {quantile: 0.99, value: 12_000_000},
]

/** A topic as in a list. */
function listed(topic, at = 0) {
  const more = at % 7 === 3 ? BEHIND : {published_rate: (at * 7) % 100, finished_rate: (at * 7) % 100, messages: at * 1000}
  return {topic, ...numbers(more), own_depth: 0, channels: 2, clients: at % 5, nodes: 2, ephemeral: false}
}

class Fleet {
  constructor({topics = 12, login = 'none', gone = true} = {}) {
    this.login = login
    this.actions = []
    this.gone = gone
    this.readOnly = false
    this.calm = false
    this.fails = null
    this.reading = null
    /** Seconds by which figures are older than what is asked for at once. */
    this.age = 0
    this.paused = new Set()
    this.names = [
      'orders',
      'clicks',
      '<img src=x onerror=alert(1)>',
      ...Array.from({length: Math.max(0, topics - 3)}, (_, at) => `topic-${String(at).padStart(5, '0')}`),
    ]
  }

  warnings() {
    return this.gone ? [`node ${NODES[2]} does not answer: connection refused`] : []
  }

  list({search = '', sort = 'trouble', order, page = 1, per_page: size = 50}) {
    const wanted = this.names
      .map((name, at) => listed(name, at))
      .filter(({topic}) => topic.toLowerCase().includes(search.toLowerCase()))
    wanted[0] && (wanted[0].worst = wanted[0].topic === 'orders' ? findings()[0] : undefined)
    const down = (order ?? (sort === 'name' ? 'asc' : 'desc')) === 'desc' ? -1 : 1
    const value = (row) => (sort === 'name' ? row.topic : row[sort])
    if (sort !== 'trouble') wanted.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * down)
    const from = (page - 1) * size
    return {
      page: Number(page),
      per_page: Number(size),
      total: this.names.length,
      matching: wanted.length,
      topics: wanted.slice(from, from + Number(size)),
    }
  }

  nodes() {
    return NODES.map((node, at) =>
      at === 2 && this.gone
        ? {node, reachable: false, error: 'connection refused', configured: true, address: node}
        : {
            node,
            reachable: true,
            error: null,
            configured: true,
            program: at === 1 ? 'nsqd' : 'mq',
            version: at === 1 ? '1.3.0' : '0.0.2',
            out_of_date: at === 1,
            health: at === 0 ? 'OK' : 'NOK - disk is full',
            hostname: `broker-${at}`,
            broadcast_address: node.split(':')[0],
            tcp_port: 4150,
            http_port: 4151,
            zone: 'a',
            region: 'eu',
            started_at: now() - 86_400 * 3,
            topics: 12,
            channels: 30,
            clients: 44,
            ...BEHIND,
            memory_bytes: 90 << 20,
            memory_limit_bytes: 256 << 20,
            disk_bytes: at === 1 ? null : 92 * 2 ** 30,
            disk_limit_bytes: at === 1 ? null : 100 * 2 ** 30,
            disk_free_bytes: 12 * 2 ** 30,
            disk_full_seconds: 7_300,
            damaged: at === 0 ? 1 : null,
            fsync_mean_seconds: 0.004,
            draining: false,
            lookups: ['127.0.0.1:4161'],
            address: node,
          },
    )
  }

  listedNodes({search = '', sort = 'trouble', page = 1, per_page: size = 50}) {
    const matching = this.nodes().filter(({node}) => node.includes(search))
    if (sort === 'name') matching.reverse()
    return {page: Number(page), per_page: Number(size), total: NODES.length, matching: matching.length, nodes: matching}
  }

  lookups() {
    return [
      {lookup: '127.0.0.1:4161', reachable: true, error: null, version: '0.0.2', brokers: 3, topics: 12},
      {
        lookup: '127.0.0.1:4163',
        reachable: true,
        error: null,
        version: '0.0.2',
        brokers: 2,
        topics: 12,
        disagrees: `it lacks broker ${NODES[2]}`,
      },
      {lookup: '127.0.0.1:4165', reachable: false, error: 'connection refused'},
    ]
  }

  get(name, query) {
    const base = {at: now() - this.age, warnings: this.warnings(), reading: this.reading}
    const {topic, channel} = query
    if (this.reading && !['overview', 'topics', 'nodes'].includes(name)) return [202, {...base, reading: this.reading}]
    if (topic !== undefined && !this.names.includes(topic)) return [404, {message: 'TOPIC_NOT_FOUND'}]
    const own = this.calm ? [] : findings()
    switch (name) {
      case 'overview':
        return [
          200,
          {
            ...base,
            findings: own,
            findings_total: this.calm ? 0 : 5,
            totals: {...BEHIND, topics: this.names.length, channels: 30, clients: 44, nodes: 3, lookups: 2},
            nodes: this.nodes().map(({node, reachable, health}) => ({node, reachable, health})),
            busiest: this.names.slice(0, 4).map(listed),
          },
        ]
      case 'topics':
        return [200, {...base, ...this.list(query)}]
      case 'topic': {
        const channels = ['email', 'billing', 'audit#ephemeral'].map((each, at) => ({
          channel: each,
          ...(at === 2 ? numbers() : BEHIND),
          paused: this.paused.has(`${topic}/${each}`),
          clients: at * 2,
          ephemeral: at === 2,
          latency: at === 1 ? latency : [],
          worst: at < 2 ? own[at * 3] : undefined,
        }))
        const nodes = NODES.slice(0, 2).map((node, at) => ({
          node,
          ...BEHIND,
          own_depth: 0,
          channels: 3,
          clients: 5,
          tombstoned: at === 1,
          damage: null,
          settings: at === 0 ? settings : undefined,
          latency: [],
        }))
        return [
          200,
          {
            ...base,
            topic,
            ...BEHIND,
            paused: this.paused.has(topic),
            own_depth: 17,
            bytes: 123_456_789,
            clients: 5,
            ephemeral: false,
            findings: own.filter((each) => each.topic),
            nodes,
            channels,
            producers: [client(1), client(2)],
            producers_total: 2,
            nodes_total: 2,
            channels_total: 3,
          },
        ]
      }
      case 'channel':
        if (!['email', 'billing', 'audit#ephemeral'].includes(channel)) return [404, {message: 'CHANNEL_NOT_FOUND'}]
        return [
          200,
          {
            ...base,
            topic,
            channel,
            ...BEHIND,
            paused: this.paused.has(`${topic}/${channel}`),
            ephemeral: channel.endsWith('#ephemeral'),
            latency,
            findings: own.filter((each) => each.channel === channel),
            dead_letters: 7,
            nodes: NODES.slice(0, 2).map((node, at) => ({
              node,
              ...BEHIND,
              clients: 4,
              latency,
              settings: at === 0 ? channelSettings : undefined,
            })),
            clients: [1, 2, 3, 4].map(client),
            clients_total: 4,
            clients_at: now(),
          },
        ]
      case 'nodes':
        return [
          200,
          {
            ...base,
            findings: own.filter((each) => each.node),
            findings_total: own.filter((each) => each.node).length,
            newest_version: '0.0.2',
            ...this.listedNodes(query),
            lookups: this.lookups(),
          },
        ]
      case 'node': {
        const node = this.nodes().find((each) => each.node === query.node)
        if (!node) return [404, {message: 'NODE_NOT_FOUND'}]
        return [200, {...base, node, findings: own.filter((each) => each.node === query.node), ...this.list(query)}]
      }
      case 'lookup':
        return [
          200,
          {
            ...base,
            lookups: this.lookups(),
            inactive: [
              {topic: 'old', channels: ['a', 'b']},
              {topic: 'older', channels: []},
            ],
          },
        ]
      case 'history':
        return [200, {...base, at: now(), warnings: [], ...this.history(query)}]
      case 'peek':
        return [200, {...base, ...this.peek(query)}]
      default:
        return [404, {message: 'NOT_FOUND'}]
    }
  }

  history({span}) {
    const [step, steps] = span === '1d' ? [60, 1440] : [10, 60]
    const times = Array.from({length: steps}, (_, at) => Math.floor(now() / step) * step - (steps - 1 - at) * step)
    const wave = (high, low, shift) =>
      times.map((_, at) => (at < 4 ? null : Math.max(0, Math.round((low + high * Math.sin(at / 9 + shift)) * 10) / 10)))
    return {
      step,
      times,
      depth: times.map((_, at) => at * 20),
      in_flight: wave(10, 20, 1),
      published: wave(30, 100, 0),
      finished: wave(20, 70, 1),
      requeued: wave(2, 1, 2),
      timed_out: wave(0, 0.2, 0),
      note: null,
    }
  }

  peek({topic, channel, node, from = '', limit = 20}) {
    const bodies = ['{"a":1,"b":[true,null]}', '<script>alert(1)</script>', null, 'plain text, long enough to wrap. '.repeat(12)]
    const messages = Array.from({length: Math.min(Number(limit), 20)}, (_, at) => {
      const text = bodies[at % 4]
      const body =
        text === null ? Buffer.from([0, 1, 2, 255, 254, 65, 66, 67, 10, 200, 1, 2, 3, 4, 5, 6, 7, 8, 9]) : Buffer.from(text)
      return {
        id: `${from || '0'}a1b2c3d4e5f60${String(at).padStart(2, '0')}`.slice(-16),
        time: now() - 100 + at,
        attempts: at % 3,
        state: channel ? ['in_flight', 'waiting', 'deferred'][at % 3] : null,
        size: body.length,
        text,
        base64: body.toString('base64'),
        truncated: at === 3,
        headers: at % 4 === 0 ? [{name: 'trace', value: `abc-${at}`}] : [],
      }
    })
    return {topic, node, next: '0a1b2c3d4e5f6071', messages}
  }

  act(body) {
    this.actions.push(body)
    if (this.fails) return this.fails
    const key = body.channel ? `${body.topic}/${body.channel}` : body.topic
    if (/^pause/.test(body.action)) this.paused.add(key)
    if (/^unpause/.test(body.action)) this.paused.delete(key)
    if (body.action === 'create_topic') this.names.push(body.topic)
    if (body.action === 'delete_topic') this.names = this.names.filter((name) => name !== body.topic)
    return [200, {message: '', results: [{node: NODES[0], ok: true, error: null}]}]
  }
}

/** Listens on a free port. Returns the fleet to change, the address and `close`. */
async function serve(options) {
  const fleet = new Fleet(options)
  const answer = (response, status, value) => {
    response.writeHead(status, {'Content-Type': 'application/json', 'Cache-Control': 'no-store'}).end(JSON.stringify(value))
  }
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url, 'http://localhost')
    const [, kind, name] = url.pathname.match(/^\/admin\/(data\/)?(.*)$/) ?? []
    fleet.requests = (fleet.requests ?? 0) + (kind ? 1 : 0)
    if (fleet.dead) return request.socket.destroy()
    if (!kind) return file(response, name)
    await fleet.held
    let body = ''
    for await (const chunk of request) body += chunk
    if (name === 'me')
      return answer(response, 200, {
        login: fleet.login,
        mode: 'fleet',
        version: '0.0.2',
        name: 'broker-0:4151',
        can_peek: true,
        read_only: fleet.readOnly,
        poll_seconds: 1,
      })
    if (name === 'login') {
      if (JSON.parse(body).token !== 'secret') return answer(response, 401, {message: 'UNAUTHORIZED'})
      fleet.login = 'in'
      return answer(response, 200, {message: ''})
    }
    if (name === 'logout') {
      fleet.login = 'needed'
      return answer(response, 200, {message: ''})
    }
    if (fleet.login === 'needed') return answer(response, 401, {message: 'UNAUTHORIZED'})
    const [status, value] =
      request.method === 'POST' ? fleet.act(JSON.parse(body)) : fleet.get(name, Object.fromEntries(url.searchParams))
    return answer(response, status, value)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = `http://127.0.0.1:${server.address().port}/admin/`
  return {
    fleet,
    address,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve)
        server.closeAllConnections()
      }),
  }
}

function file(response, name = '') {
  const wanted = path.join(PAGE, path.normalize(`/${name || 'index.html'}`))
  fs.readFile(wanted, (error, bytes) => {
    if (error) return response.writeHead(404).end()
    response.writeHead(200, {
      'Content-Type': TYPES[path.extname(wanted)] ?? 'text/plain',
      'Content-Security-Policy': policy(),
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-cache',
    })
    return response.end(bytes)
  })
}

module.exports = {serve, NODES}
