'use strict'
// The pictures of docs/images: `node screenshots.js ADDRESS FOLDER TOPIC CHANNEL NODE`, of a page that needs no login,
// and `node screenshots.js ADDRESS FOLDER`, of one that does. CHANNEL is `topic/channel`.

const path = require('node:path')
const {open, sees, visit} = require('./browser.js')

const [address, folder, topic, channel, node] = process.argv.slice(2)

/** Name of the picture, the place, its heading, words that are there once the data is, the scheme, and whether the
 * picture has all of the page, also what is below the window. */
const PICTURES = topic === undefined ? [['login', '#/', 'Log in', 'asks for a token']] : [
  ['overview', '#/', 'Overview', 'Busiest topics'],
  ['overview-dark', '#/', 'Overview', 'Busiest topics', 'dark'],
  ['topics', '#/topics', 'Topics', 'topics'],
  ['topic', `#/topics/${topic}`, topic, 'Messages waiting'],
  ['channel', `#/topics/${channel}`, channel.split('/')[1], 'Messages waiting', 'light', true],
  ['nodes', '#/nodes', 'Nodes', 'Lookup servers'],
  ['node', `#/nodes/${encodeURIComponent(node)}`, node, 'About it'],
  ['lookup', '#/lookup', 'Lookup', 'Inactive topics'],
  ['peek', `#/peek/${topic}?view=json&channel=${channel.split('/')[1]}`, `Peek at ${topic}`, '20 messages'],
]

async function main() {
  for (const colorScheme of ['light', 'dark']) {
    const {page, close} = await open({width: 1100, height: 800, colorScheme})
    for (const [name, place, heading, words, scheme = 'light', fullPage = false] of PICTURES) {
      if (scheme !== colorScheme) continue
      await visit(page, address, place, heading)
      await sees(page, words)
      await page.waitForLoadState('networkidle')
      await page.screenshot({path: path.join(folder, `admin-${name}.png`), fullPage})
    }
    await close()
  }
}

main()
