import testing from './testing.js'

export const { connect, TestClient } = testing
