// The TypeScript SDK 1.x on node's own HTTP server, with sessions: `node v1.mjs PORT`. It knows the
// revisions of 2025.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { addTools } from './tools.mjs';

const sessions = new Map();

function made() {
    const server = new McpServer({ name: 'bench', version: '1' });
    return addTools(server, extra => ({
        token: extra._meta?.progressToken,
        notify: message => extra.sendNotification(message)
    }));
}

async function opened() {
    const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: id => sessions.set(id, transport)
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await made().connect(transport);
    return transport;
}

createServer(async (request, response) => {
    const id = request.headers['mcp-session-id'];
    const transport = id === undefined ? await opened() : sessions.get(id);
    if (transport === undefined) response.writeHead(404).end();
    else await transport.handleRequest(request, response);
}).listen(Number(process.argv[2]), '127.0.0.1');
