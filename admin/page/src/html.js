// `html`: templates of elements. Close every tag: htm renders nothing for one left open.
import {h} from 'preact'
import htm from 'htm'

export const html = htm.bind(h)
