// The TypeScript SDK 2.x on node's own HTTP server: `node v2.mjs PORT`. Requests of 2026-07-28 go to
// its handler for them, all others to transports with sessions.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { addTools } from './tools.mjs';

const sessions = new Map();

function made() {
    const server = new McpServer({ name: 'bench', version: '1' });
    return addTools(server, context => ({
        token: context.mcpReq._meta?.progressToken,
        notify: message => context.mcpReq.notify(message)
    }));
}

async function opened() {
    const transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: id => sessions.set(id, transport)
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await made().connect(transport);
    return transport;
}

const modern = toNodeHandler(createMcpHandler(made));

createServer(async (request, response) => {
    if (request.headers['mcp-protocol-version'] === '2026-07-28') {
        await modern(request, response);
        return;
    }
    const id = request.headers['mcp-session-id'];
    const transport = id === undefined ? await opened() : sessions.get(id);
    if (transport === undefined) response.writeHead(404).end();
    else await transport.handleRequest(request, response);
}).listen(Number(process.argv[2]), '127.0.0.1');
