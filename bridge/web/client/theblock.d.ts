/** Types of theblock.js. What it all means: README.md. */

/** The place of an update in its stream. */
export interface Position {
  epoch: string
  seq: number
}

/** A range of updates, both ends included. */
export interface Range {
  from: number
  to: number
}

/** One complete value, published on a stream at a position. */
export interface Update<Data = Record<string, unknown>> extends Position {
  type: string
  stream: string
  /** When it was published, Unix milliseconds. */
  time: number
  /** On keyed streams: the name of the value, and the seq of its update before this one. */
  key?: string
  prev?: number
  /** Whether it is a current value rather than what comes next. */
  snapshot?: true
  /** What it stands in for. */
  missed?: Range
  data: Data
}

// ---------------------------------------------------------------------- the declared streams

/** With `int64: "string"`, 64-bit integers are strings. */
export type Int64 = number | string

export interface BlockUpdate {
  height: Int64
  finalized_height?: Int64
  hash: string
  parent_hash?: string
  timestamp?: Int64
  tx_count?: number
  replaces?: { height: Int64; hash: string; depth: number }
}

export interface MetricsUpdate {
  tps: number | null
  fees: Int64 | null
  latencyMs: number | null
  peers: number | null
  blockHeight: Int64 | null
  issuance: Int64 | null
}

export interface NetworkUpdate {
  peers?: number
  activeConnections?: number
  bandwidth?: { inbound?: number | null; outbound?: number | null }
}

export interface TradingUpdate {
  orders: {
    id: string
    token: string
    side: string
    qty: number | null
    price: number | null
    filled: number | null
    status: string
    timestamp: Int64
  }[]
  executions: {
    id: string
    buyOrderId: string
    sellOrderId: string
    qty: number | null
    price: number | null
    timestamp: Int64
  }[]
  volume24h: number | null
  lastPrice: number | null
}

export interface EnergyUpdate {
  totalSupply?: number | null
  totalDemand?: number | null
  price?: number | null
  providers?: number
}

export interface AccountUpdate {
  address: string
  /** A decimal integer of any size. */
  balance?: string
  nonce?: Int64
  height?: Int64
}

/** Data by type of update. */
export interface Updates {
  block_update: BlockUpdate
  metrics_update: MetricsUpdate
  network_update: NetworkUpdate
  trading_update: TradingUpdate
  energy_update: EnergyUpdate
  account_update: AccountUpdate
}

// ---------------------------------------------------------------------- notices of the connection

export interface Welcome {
  type: "welcome"
  session: string
  server: string
  version: string
  format: "json" | "proto"
  ping_interval_ms: number
  max_message_bytes: number
  streams: string[]
}

/** Why a connection ended; `code` is the close code, where there was one. */
export interface Lost {
  sentence: string
  code?: number
  retryAfterMs?: number
  welcomed: boolean
}

/** Where a subscription begins; `recovered` says, after a resume, whether every update behind the position follows. */
export interface Subscribed extends Position {
  stream: string
  key?: string
  declared: boolean
  did_you_mean?: string
  recovered?: boolean
  replayed?: number
  reason?: "trimmed" | "epoch" | "ahead"
}

/** Updates that will not come: history let go of them, the stream began anew (no range then), or nobody said why. */
export interface Gap extends Range {
  type: "gap"
  stream: string
  key?: string
  epoch: string
  reason: "trimmed" | "epoch" | "unexplained"
}

/** An error of the sidecar, as JSON-RPC has it. */
export interface SidecarError extends Error {
  code?: number
  data?: Record<string, unknown>
}

export interface Notices {
  "ws:connected": Welcome
  "ws:subscribed": Subscribed
  "ws:disconnected": Lost
  "ws:gave_up": { sentence: string }
  "ws:refused": { stream: string; key?: string; error: SidecarError }
  "ws:gap": Gap
  "ws:upstream": { type: "upstream"; state: "live" | "stale" | "down"; since: number }
  "ws:fell_behind": { type: "fell_behind"; stream: string; seq: number; head: number }
  "ws:caught_up": { type: "caught_up"; stream: string; seq: number }
  "ws:progress": { type: "progress"; positions: (Position & { stream: string })[] }
  "ws:going_away": { type: "going_away"; retry_after_ms: number; reason: string }
}

// ---------------------------------------------------------------------- subscriptions and options

export type Scalar = string | number | boolean | null

/** A condition on a field: a value, or tests that all must hold. */
export type Condition =
  | Scalar
  | { in?: Scalar[]; prefix?: string; gt?: number | string; gte?: number | string; lt?: number | string; lte?: number | string }

export interface SubscriptionOptions {
  /** Of the values wanted; none: all. */
  key?: string
  /** Where to begin: behind a position, or with the first update at or after a height or a time. */
  since?: Position | { height: number } | { time: number }
  /** Begin with so many of the newest updates. */
  last?: number
  /** Conditions on fields of data. */
  where?: Record<string, Condition>
  /** Of data that are wanted; JSON over the WebSocket only. */
  fields?: string[]
  /** The most updates a second, on a stream delivered `latest`. */
  max_rate?: number
  /** Of a stream that this client does not know: `latest` says that its updates may be skipped. */
  delivery?: "every" | "latest"
}

export interface Clock {
  /** Milliseconds. */
  now(): number
  setTimeout(call: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
}

export interface Log {
  debug?(...words: unknown[]): void
  info?(...words: unknown[]): void
  warn?(...words: unknown[]): void
  error?(...words: unknown[]): void
}

export type Transport = "websocket" | "sse" | "polling"

/** A reader of Server-Sent Events, named ones too, that can begin behind an id. */
export interface EventReader {
  onmessage: (event: { type: string; data: string; lastEventId: string }) => void
  onerror: (error: { status?: number }) => void
  close(): void
}

export interface EventReaderClass {
  new (
    url: string,
    options: { fetch: typeof fetch; headers: Record<string, string>; lastEventId: string; clock: Clock },
  ): EventReader
}

export interface Options {
  /** Of the WebSocket; default: `window.BLOCK_BUSTER_WS`, else `ws://localhost:5000/ws`. */
  url?: string
  /** What to subscribe to; default: `block_updates`, `metrics`, `network`, `trading`. */
  streams?: (string | ({ stream: string } & SubscriptionOptions))[]
  /** Of the frames; default: json. */
  format?: "json" | "proto"
  /** How 64-bit integers of data come; default: as numbers. */
  int64?: "number" | "string"
  /** For access; a function is asked before each connection, and when a token has been refused. */
  token?: string | (() => string | Promise<string>)
  /** What may be used; default: all. */
  transports?: Transport[]
  /** After how many tries in a row the WebSocket is given up; default: never. */
  maxReconnectAttempts?: number
  /** Between two pings, milliseconds; default: 30,000. */
  pingInterval?: number
  /** The longest that the first pause between two tries may be, milliseconds; it doubles with each; default: 1,000. */
  reconnectDelay?: number
  /** The longest that any pause may be, milliseconds; default: 30,000. */
  reconnectCap?: number
  /** Without a WebSocket, until something else feeds the dashboard, milliseconds; default: 3,000. */
  fallbackDelay?: number
  /** Between two rounds of polling, milliseconds; default: 2,000. */
  pollInterval?: number
  /** How long a hidden tab keeps its connection, milliseconds; default: 60,000. */
  hiddenDelay?: number
  /** Where values are shown; default: one of its own. */
  store?: Store
  log?: Log
  clock?: Clock
  random?: () => number
  fetch?: typeof fetch | null
  WebSocket?: (new (url: string, protocols: string[]) => WebSocket) | null
  EventSource?: EventReaderClass
  document?: Pick<Document, "hidden" | "addEventListener" | "removeEventListener">
}

// ---------------------------------------------------------------------- the client

export interface Metrics {
  messagesReceived: number
  messagesSent: number
  /** Connections after the first. */
  reconnects: number
  /** Of the last ping, milliseconds. */
  latency: number | null
  /** Updates and snapshots that were told. */
  updates: number
  /** Subscriptions that were resumed with nothing missing. */
  recovered: number
  /** Updates that were replayed then. */
  replayed: number
  /** Updates that came twice, and were told once. */
  repeated: number
  gaps: number
  /** Updates that will not come. */
  missed: number
  /** Handlers that threw, and frames that could not be read. */
  errors: number
}

export type Handler<Data, Whole = Data> = (data: Data, update: Whole) => void

export class BlockWebSocket {
  constructor(options?: Options)
  constructor(url: string | undefined, options?: Options)
  readonly url: string
  readonly store: Store
  /** The names of what is subscribed to: a stream, or `stream/key`. */
  readonly subscriptions: Set<string>
  readonly messageHandlers: Map<string, Set<Handler<any, any>>>
  /** What feeds the dashboard now. */
  readonly transport: Transport | "none"
  maxReconnectAttempts: number
  /** How many tries there were since the last steady connection. */
  reconnectAttempts: number
  /** The longest that the next pause may be, milliseconds. */
  reconnectDelay: number
  mount(): this
  unmount(): void
  connect(): void
  scheduleReconnect(retryAfterMs?: number): void
  paint(): Promise<void>
  subscribe(stream: string, options?: SubscriptionOptions): void
  unsubscribe(stream: string, options?: { key?: string }): void
  on<Type extends keyof Updates>(type: Type, handler: Handler<Updates[Type], Update<Updates[Type]>>): () => void
  on<Name extends keyof Notices>(name: Name, handler: (notice: Notices[Name]) => void): () => void
  on<Data = Record<string, unknown>>(type: string, handler: Handler<Data, Update<Data>>): () => void
  off(type: string, handler?: Handler<any, any>): void
  send(message: { method: string; params?: unknown; id?: number | string } | { type: "ping"; timestamp: number }): boolean
  request<Result = unknown>(method: string, params?: unknown[]): Promise<Result>
  isConnected(): boolean
  getMetrics(): Metrics
  position(stream: string, key?: string): Position | null
}

// ---------------------------------------------------------------------- state

/** What the store holds under `ws`. */
export interface ConnectionState {
  connected: boolean
  transport: Transport | "none"
  hidden: boolean
  gaveUp: boolean
  reconnectAttempts: number
  readonly metrics: Metrics
}

export interface State {
  ws: ConnectionState
  usePolling: boolean
  metrics: Partial<MetricsUpdate> & { height?: Int64; finalized_height?: Int64; timestamp?: Int64 }
  network: NetworkUpdate
  trading: TradingUpdate
  energy: EnergyUpdate
}

export interface Change {
  key: string
  value: unknown
  /** Milliseconds, by the store's clock. */
  time: number
}

export class Store {
  constructor(options?: { clock?: { now(): number }; log?: Log })
  get<Key extends keyof State>(key: Key): State[Key] | undefined
  get(key: string): unknown
  set<Key extends keyof State>(key: Key, value: State[Key]): void
  set(key: string, value: unknown): void
  subscribe<Key extends keyof State>(
    key: Key,
    watcher: (value: State[Key], before: State[Key] | undefined) => void,
  ): () => void
  subscribe(key: string, watcher: (value: any, before: any) => void): () => void
  getHistory(key?: string): Change[]
}

// ---------------------------------------------------------------------- features

export class Features {
  constructor(options?: {
    flags?: Record<string, boolean | number>
    storage?: Pick<Storage, "getItem" | "setItem">
    random?: () => number
  })
  /** The id that keeps a visitor on one side of a rollout. */
  readonly visitor: string
  configure(flags: Record<string, unknown>): void
  isEnabled(name: string): boolean
  enable(name: string): void
  disable(name: string): void
  reset(name: string): void
  getAll(): Record<string, boolean>
}

export const DEFAULT_URL: string
export const DEFAULT_STREAMS: string[]

export interface Config {
  ws_url?: string
  websockets?: boolean | number
  features?: Record<string, boolean | number>
  poll_interval_ms?: number
  ping_interval_ms?: number
  version?: string
}

export interface StartOptions extends Options {
  /** The URL of config.json; default: beside the WebSocket. */
  config?: string
  features?: Features
  storage?: Pick<Storage, "getItem" | "setItem">
  location?: Pick<Location, "hostname" | "protocol">
}

export function start(
  options?: StartOptions,
): Promise<{ ws: BlockWebSocket; store: Store; features: Features; config: Config }>
