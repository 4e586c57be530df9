'use strict'
// An HTTP service that publishes: POST /TOPIC with a body is answered 202 once a broker has stored it.
//
//     npm install libmq
//     node http_service.js mq://127.0.0.1:4150 8080

const http = require('node:http')
const {buffer} = require('node:stream/consumers')

const {connect, MqError} = require('libmq')

async function main() {
  const [url = 'mq://127.0.0.1:4150', port = '8080'] = process.argv.slice(2)
  const client = await connect(url, {publishTimeout: 5000})

  async function answer(request, response) {
    if (request.method !== 'POST') {
      response.writeHead(405).end()
      return
    }
    try {
      await client.publish(decodeURIComponent(request.url.slice(1)), await buffer(request))
      response.writeHead(202).end()
    } catch (error) {
      if (!(error instanceof MqError)) throw error
      const isTheirs = error.code === 'INVALID_NAME' || error.code === 'INVALID_ARGUMENT'
      response.writeHead(isTheirs ? 400 : 503, {'content-type': 'text/plain'}).end(`${error.message}\n`)
    }
  }

  const server = http.createServer((request, response) => {
    answer(request, response).catch((error) => {
      console.error(error)
      response.destroy()
    })
  })
  server.listen(Number(port), '127.0.0.1', () => {
    const address = server.address()
    if (typeof address === 'object') console.log(`listening on port ${address.port}`)
  })

  process.once('SIGTERM', () => {
    // Requests under way are answered, and what they published is stored, before the process ends by itself.
    server.close(() => client.close())
    server.closeIdleConnections()
  })
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
